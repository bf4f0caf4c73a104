"""Connections to the node's database: how they are set up, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, OperationalError

from dicom_node.errors import ConfigurationError

_log = logging.getLogger(__name__)

LOCK_WAIT_S = 30
"""How long a writer waits for the one before it."""


def sqlite_engine(file: Path) -> Engine:
    """Return the engine of a SQLite file; option ``immediate`` begins a transaction with its write lock."""
    engine = create_engine(
        f"sqlite:///{file}",
        connect_args={"timeout": float(LOCK_WAIT_S), "check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        busy = f"busy_timeout={1000 * LOCK_WAIT_S}"
        for pragma in (busy, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


POSTGRESQL_OPTIONS = {
    "lock_timeout": f"{LOCK_WAIT_S}s",
    # A process that was stopped, or a machine that lost its network, inside a transaction holds the
    # write lock: the server ends the connection.
    "idle_in_transaction_session_timeout": f"{LOCK_WAIT_S}s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""Set by each connection for itself (PostgreSQL manual, chapter 20)."""


def postgresql_arguments() -> dict[str, str | int]:
    """Return what every connection of this node to PostgreSQL says, in the words of libpq."""
    options = " ".join(f"-c {name}={value}" for name, value in POSTGRESQL_OPTIONS.items())
    return {"options": options, "connect_timeout": 10, "application_name": "hepatocast"}


def postgresql_engine(url: str) -> Engine:
    """Return the engine of a PostgreSQL database; raise `ConfigurationError` for another address."""
    try:
        engine = create_engine(
            driver_url(url),
            connect_args=postgresql_arguments(),
            pool_size=10,
            max_overflow=30,
            pool_pre_ping=True,
            hide_parameters=True,  # values of rows do not belong into errors and logs
        )
    except (ArgumentError, ImportError) as error:
        raise ConfigurationError(
            "the database is no address of PostgreSQL (postgresql://user:password@host/name), "
            "or `hepatocast[postgresql]` is not installed"
        ) from error

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def _without_nul(
        _c: Connection, _cursor: object, statement: str, parameters: Any, _x: object, many: bool
    ) -> tuple[str, Any]:
        # Texts from peers may have NUL in them, which PostgreSQL takes in no text.
        return statement, [_cleaned(p) for p in parameters] if many else _cleaned(parameters)

    return engine


def driver_url(url: str) -> str:
    """Return an address of PostgreSQL in SQLAlchemy's words; raise `ConfigurationError` for another."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigurationError("the database is no address that begins with postgresql://")
    return f"postgresql+psycopg://{rest}"


def _cleaned(parameters: Any) -> Any:
    def clean(value: Any) -> Any:
        return value.replace("\0", "") if isinstance(value, str) and "\0" in value else value

    if isinstance(parameters, dict):
        return {name: clean(value) for name, value in parameters.items()}
    return tuple(clean(value) for value in parameters)


def check_durable(connection: Connection) -> None:
    """Refuse a server that says committed before it is; warn of one that never flushes."""
    if connection.dialect.name != "postgresql":
        return
    if connection.execute(text("SHOW synchronous_commit")).scalar_one() == "off":
        raise ConfigurationError("PostgreSQL runs with synchronous_commit=off; what it commits may be lost")
    if connection.execute(text("SHOW fsync")).scalar_one() == "off":
        _log.warning("PostgreSQL runs with fsync=off: a power cut loses what was acknowledged")


def first_line(error: OperationalError) -> str:
    """Return what the server or its library says; addresses in it have no password."""
    return str(error.orig).splitlines()[0] if str(error.orig) else type(error.orig).__name__
