"""A PostgreSQL server of its own for one test: in a temporary folder, without network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_SERVER_USER = "postgres"
_WITHIN_S = 120.0
_POLL_S = 0.1


def postgresql_programs() -> Path | None:
    """Return the folder of initdb and postgres, which Debian keeps out of PATH; None where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def _user() -> str | None:
    """Return the user to run the server as: root may not."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SERVER_USER).pw_name
    except KeyError:
        return "nobody"


@contextmanager
def postgresql(programs: Path) -> Iterator[str]:
    """Run a server and yield the address of its database for SQLAlchemy."""
    user = _user()
    with tempfile.TemporaryDirectory(prefix="hcpg-") as temporary:
        folder = Path(temporary)
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        initdb = [programs / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
        options = ["-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen(
            [programs / "postgres", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            cwd=folder,
        )
        try:
            _wait(folder)
            yield f"postgresql+psycopg://tester@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(60)


def _wait(folder: Path) -> None:
    pause = threading.Event()
    for _ in range(int(_WITHIN_S / _POLL_S)):
        try:
            psycopg.connect(host=str(folder), user="tester", dbname="postgres").close()
        except psycopg.OperationalError:
            pause.wait(_POLL_S)
        else:
            return
    raise AssertionError("PostgreSQL did not start")
