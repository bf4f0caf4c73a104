"""Disks that fail: a process has a file system of its own, which a test fills or makes read-only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def own_disk(folder: Path, size_mib: int) -> tuple[str, ...]:
    """Return what to run a program under so that `folder` is a small disk of its own.

    A test without the rights for it is skipped and says so.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("mount namespaces need root and util-linux")
    tried = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True, timeout=30)
    if tried.returncode:
        pytest.skip(f"mount namespaces are not to be had here ({tried.stderr.decode().strip()[:80]})")
    folder.mkdir(parents=True, exist_ok=True)
    mount = f'mount -t tmpfs -o size={size_mib}m tmpfs "{folder}" && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")


def inside(process: int, *command: str) -> str:
    """Run a command where a process sees its disk; return its output."""
    done = subprocess.run(
        ["nsenter", "--target", str(process), "--mount", *command],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return done.stdout.decode()


def make_larger(process: int, folder: Path, size_mib: int) -> None:
    """Give a disk more room."""
    inside(process, "mount", "-o", f"remount,size={size_mib}m", str(folder))


def make_read_only(process: int, folder: Path) -> None:
    """Let nothing more be written below a folder; files that are open stay so."""
    inside(process, "mount", "--bind", str(folder), str(folder))
    inside(process, "mount", "-o", "remount,bind,ro", str(folder))


def make_writable(process: int, folder: Path) -> None:
    """Undo `make_read_only`."""
    inside(process, "umount", "--lazy", str(folder))
