"""Files that only their owner may read: secrets, and hashes of passwords."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_private(file: Path, text: str) -> None:
    """Write a file in one step, readable by its owner only, and make it durable."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def private_secret(file: Path) -> str:
    """Return the secret in a file, making one where there is none; two processes get the same one."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        made = file.with_name(f".{file.name}.{os.getpid()}.new")
        write_private(made, secrets.token_urlsafe(48) + "\n")
        try:
            os.link(made, file)  # fails where another process was first
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return file.read_text(encoding="utf-8").strip()
