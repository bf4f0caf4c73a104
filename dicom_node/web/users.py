"""Users of the operator's page: a file of names, roles and password hashes.

A hash is scrypt (RFC 7914) with a salt of its own; the file never holds a password. It is written in one
step and readable by its owner only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.secret_files import write_private

COST, BLOCK, PARALLEL = 2**15, 8, 1
"""N, r and p of scrypt: 32 MiB and about a tenth of a second for each try."""
MEMORY_BYTES = 128 * COST * BLOCK * 2
SALT_BYTES, KEY_BYTES = 16, 32
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 256
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class Role(StrEnum):
    """What a user may do."""

    VIEWER = "viewer"
    CLINICIAN = "clinician"
    OPERATOR = "operator"


class Right(StrEnum):
    """One thing that changes something."""

    RETRY = "retry"
    CANCEL = "cancel"
    RELEASE = "release"
    REJECT = "reject"
    DECIDE = "decide"


_CLINICAL = frozenset({Right.RELEASE, Right.REJECT, Right.DECIDE})
RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset(),
    Role.CLINICIAN: _CLINICAL,
    Role.OPERATOR: _CLINICAL | {Right.RETRY, Right.CANCEL},
}


@dataclass(frozen=True, slots=True)
class User:
    """One user; `password_hash` is what `hash_password` returned."""

    name: str
    role: Role
    password_hash: str

    def may(self, right: Right) -> bool:
        """Whether the role has a right."""
        return right in RIGHTS[self.role]

    @property
    def version(self) -> str:
        """Another one after each change of the password: sessions from before end."""
        return hashlib.sha256(self.password_hash.encode()).hexdigest()[:16]


def _derive(password: str, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password.encode(), salt=salt, n=cost, r=block, p=parallel, maxmem=MEMORY_BYTES, dklen=KEY_BYTES
    )


def hash_password(password: str) -> str:
    """Return a hash of a password, with its salt and the costs it was made with.

    Raises
    ------
    ConfigurationError
        The password is too short or too long.
    """
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise ConfigurationError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    salt = secrets.token_bytes(SALT_BYTES)
    key = _derive(password, salt, COST, BLOCK, PARALLEL)
    return f"scrypt${COST}${BLOCK}${PARALLEL}${salt.hex()}${key.hex()}"


NOBODY = f"scrypt${COST}${BLOCK}${PARALLEL}${'00' * SALT_BYTES}${'00' * KEY_BYTES}"
"""Checked for a name that does not exist, so that the answer takes as long."""


def password_matches(password: str, password_hash: str) -> bool:
    """Whether a password has this hash; takes the same time either way."""
    scheme, cost, block, parallel, salt, key = password_hash.split("$")
    if scheme != "scrypt":
        raise ConfigurationError("the file of users has a hash that is not scrypt")
    found = _derive(password[:LONGEST_PASSWORD], bytes.fromhex(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, bytes.fromhex(key))


@dataclass(frozen=True)
class Users:
    """The file of users."""

    file: Path

    def all(self) -> dict[str, User]:
        """Return all users by name; none where there is no file.

        Raises
        ------
        ConfigurationError
            The file cannot be read.
        """
        try:
            rows = json.loads(self.file.read_text(encoding="utf-8"))
            users = [User(str(r["name"]), Role(r["role"]), str(r["password_hash"])) for r in rows]
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the users in {self.file} cannot be read ({type(error).__name__})"
            ) from error
        return {user.name: user for user in users}

    def authenticate(self, name: str, password: str) -> User | None:
        """Return the user with this name and password, or None."""
        user = self.all().get(name)
        matches = password_matches(password, NOBODY if user is None else user.password_hash)
        return user if matches else None

    def put(self, name: str, role: Role, password: str) -> bool:
        """Add a user, or give one another role and password; returns whether the user is new."""
        if not NAME.fullmatch(name):
            raise ConfigurationError("a user's name has 1 to 32 letters, digits, dots, dashes, underscores")
        users = self.all()
        added = name not in users
        self._write({**users, name: User(name, role, hash_password(password))})
        return added

    def remove(self, name: str) -> None:
        """Remove a user; raise `ConfigurationError` if there is none of that name."""
        users = self.all()
        if name not in users:
            raise ConfigurationError(f"there is no user {name!r}")
        self._write({n: u for n, u in users.items() if n != name})

    def _write(self, users: Mapping[str, User]) -> None:
        rows = [
            {"name": u.name, "role": str(u.role), "password_hash": u.password_hash} for u in users.values()
        ]
        write_private(self.file, json.dumps(rows, indent=1) + "\n")
