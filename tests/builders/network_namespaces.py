"""A second machine on this one: a network namespace behind a cable that a test can cut."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

OURS, THEIRS = "10.231.77.1", "10.231.77.2"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)


@dataclass(frozen=True)
class Cable:
    """A veth pair between this machine (`OURS`) and the other one (`THEIRS`)."""

    namespace: str
    device: str

    def cut(self) -> None:
        """Lose every packet; nobody is told."""
        _ip("link", "set", self.device, "down")

    def mend(self) -> None:
        """Let packets through again."""
        _ip("link", "set", self.device, "up")

    def over_there(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs on the other machine."""
        return ["ip", "netns", "exec", self.namespace, *command]


@contextmanager
def second_machine() -> Iterator[Cable]:
    """Make the other machine for a block; a test without the rights for it is skipped and says so."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    cable = Cable(f"hc{os.getpid()}", f"hcv{os.getpid() % 100000}")
    there = f"{cable.device}p"
    try:
        _ip("netns", "add", cable.namespace)
        _ip("link", "add", cable.device, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", cable.namespace)
        _ip("addr", "add", f"{OURS}/30", "dev", cable.device)
        _ip("link", "set", cable.device, "up")
        for arguments in (
            ("addr", "add", f"{THEIRS}/30", "dev", there),
            ("link", "set", there, "up"),
            ("link", "set", "lo", "up"),
        ):
            subprocess.run(cable.over_there(["ip", *arguments]), check=True, capture_output=True, timeout=30)
    except subprocess.CalledProcessError as error:
        _remove(cable)
        pytest.skip(f"network namespaces are not to be had here ({error.stderr.decode().strip()[:80]})")
    try:
        yield cable
    finally:
        _remove(cable)


def _remove(cable: Cable) -> None:
    for arguments in (("link", "del", cable.device), ("netns", "del", cable.namespace)):
        subprocess.run(["ip", *arguments], check=False, capture_output=True, timeout=30)
