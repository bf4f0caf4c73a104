"""Pseudonyms of a site's patients: a keyed hash whose key, the salt, never leaves the site."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from inference.errors import TrainingDataError

_LETTERS = 16
_SALT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Gives each patient a name that only the holder of the salt can give again.

    Attributes
    ----------
    salt : bytes
        Secret of the site. With the same salt a patient has the same pseudonym in every cohort.
    """

    salt: bytes

    def of(self, issuer: str, patient_id: str) -> str:
        """Return the pseudonym of a patient: ``P`` and 16 hexadecimal digits (HMAC-SHA-256)."""
        message = f"{issuer}\x1f{patient_id}".encode()
        return "P" + hmac.new(self.salt, message, hashlib.sha256).hexdigest()[:_LETTERS]


def make_salt(path: Path) -> None:
    """Write a new salt that only its owner may read.

    Raises
    ------
    TrainingDataError
        The file is there, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
    except OSError as error:
        raise TrainingDataError(f"the salt file cannot be made: {type(error).__name__}") from error


def read_salt(path: Path) -> Pseudonyms:
    """Read a salt file.

    Raises
    ------
    TrainingDataError
        It cannot be read, or holds no salt.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"the salt file cannot be read: {type(error).__name__}") from error
    if not _SALT.fullmatch(text):
        raise TrainingDataError("the salt file must hold 64 hexadecimal digits; let the command make one")
    return Pseudonyms(bytes.fromhex(text))
