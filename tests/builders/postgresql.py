"""A PostgreSQL server of its own for one test: in a temporary folder, without network."""

from __future__ import annotations

import itertools
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
_numbers = itertools.count()


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


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """Make an empty database on a server, yield its address, and drop it."""
    host = server.partition("host=")[2]
    name = f"t{next(_numbers)}"
    with psycopg.connect(host=host, user="tester", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield f"postgresql://tester@/{name}?host={host}"
    finally:
        with psycopg.connect(host=host, user="tester", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def remove_rows(url: str) -> None:
    """Empty every table of a database, and begin its numbers anew."""
    tables = "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(url, autocommit=True, options="-c lock_timeout=30s") as connection:
        (names,) = connection.execute(tables).fetchone() or (None,)
        if names:
            connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
