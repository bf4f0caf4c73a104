"""The process of the operator's page.

Run it as ``python -m dicom_node.web.server --config FILE...``. It imports nothing of the models, writes the
port that it listens on to ``data_dir/page.port``, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from dicom_node.audit.events import activity
from dicom_node.clock import Clock, system_clock
from dicom_node.database import node_database
from dicom_node.errors import ConfigurationError
from dicom_node.intake.spool import FreeBytes, free_bytes
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.opening import open_engine
from dicom_node.observation.health import Health
from dicom_node.observation.heartbeats import signs_of_life
from dicom_node.role import run_role
from dicom_node.secret_files import private_secret
from dicom_node.settings import NodeSettings
from dicom_node.signals import wait_for
from dicom_node.web.app import OperatorPage
from dicom_node.web.users import Users

_log = logging.getLogger(__name__)

MAXIMUM_CONNECTIONS = 128
STOP_WITHIN_S = 10.0


def page_port_file(data_dir: Path) -> Path:
    """Return the file that holds the page's port while it runs."""
    return data_dir / "page.port"


def check_binding(settings: NodeSettings) -> None:
    """Refuse to be reachable from other machines without users and TLS.

    Raises
    ------
    ConfigurationError
        With what is missing, and the setting that says otherwise.
    """
    web = settings.web
    if web.is_loopback or web.allow_unprotected_address:
        return
    missing = []
    if not Users(web.users(settings.data_dir)).all():
        missing.append("users (`hepatocast web add-user`)")
    if not web.uses_tls:
        missing.append("TLS (web.tls_certificate and web.tls_key)")
    if missing:
        raise ConfigurationError(
            f"the page would be reachable at {web.host} without {' and without '.join(missing)}; "
            "add them, or set web.host to 127.0.0.1, or say web.allow_unprotected_address: true"
        )


def page_secret(settings: NodeSettings) -> str:
    """Return the key that sessions are signed with: the configured one, or one of this data folder."""
    if settings.web.session_secret is None:
        return private_secret(settings.data_dir / "web.secret")
    try:
        return settings.web.session_secret.read()
    except ValueError as error:
        raise ConfigurationError(f"web.session_secret: {error}") from error


def server_config(settings: NodeSettings, page: OperatorPage) -> uvicorn.Config:
    """Return how the page is served."""
    web = settings.web
    return uvicorn.Config(
        page.app(),
        host=web.host,
        port=web.port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=MAXIMUM_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=16 * 1024,
        http="h11",
        ssl_certfile=str(web.tls_certificate) if web.tls_certificate else None,
        ssl_keyfile=str(web.tls_key) if web.tls_key else None,
    )


class _Server(uvicorn.Server):
    """A server that leaves signals to the process, and says when it listens."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.servers[0].sockets[0].getsockname()[1])


@contextlib.contextmanager
def serving_page(
    settings: NodeSettings, clock: Clock = system_clock, free: FreeBytes = free_bytes
) -> Iterator[int]:
    """Serve the page in a thread of this process until the block ends; yields its port.

    Raises
    ------
    ConfigurationError
        The address may not be used, or the port or the certificate cannot be.
    """
    check_binding(settings)
    database = node_database(settings)
    ledger = Ledger(database, clock)
    engine = open_engine(settings.jobs, database, clock, f"page:{os.getpid()}")
    health = Health(settings, database, clock, free)
    page = OperatorPage(settings, ledger, engine, page_secret(settings), health)
    config = server_config(settings, page)
    try:
        config.load()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the page's certificate cannot be used ({type(error).__name__})") from error
    server = _Server(config)
    thread = threading.Thread(target=_run, args=(server,), name="page", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread, settings)
        _announce(settings.data_dir, server.port)
        yield server.port
    finally:
        page_port_file(settings.data_dir).unlink(missing_ok=True)
        server.should_exit = True
        thread.join(STOP_WITHIN_S)
        database.dispose()


def _run(server: uvicorn.Server) -> None:
    with contextlib.suppress(SystemExit):  # uvicorn's way to say that the port is taken
        server.run()


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread, settings: NodeSettings) -> None:
    while not server.started:
        thread.join(0.02)
        if not thread.is_alive():
            web = settings.web
            raise ConfigurationError(
                f"the page cannot listen on {web.host}:{web.port}; set web.host and web.port"
            )


def _announce(data_dir: Path, port: int) -> None:
    temporary = page_port_file(data_dir).with_suffix(".part")
    temporary.write_text(f"{port}\n", encoding="ascii")
    temporary.replace(page_port_file(data_dir))


def run_page(settings: NodeSettings, stop: threading.Event) -> None:
    """Serve the page until `stop` is set."""
    database = node_database(settings)
    with (
        signs_of_life(database, system_clock, "page"),
        activity(database, system_clock, "page"),
        serving_page(settings) as port,
    ):
        scheme = "https" if settings.web.uses_tls else "http"
        _log.info("the operator's page is at %s://%s:%d", scheme, settings.web.host, port)
        wait_for(stop)
    database.dispose()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the process of the page; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dicom_node.web.server")
    parser.add_argument("--config", type=Path, action="append", default=[], help="settings over the defaults")
    options = parser.parse_args(arguments)
    return run_role("page", options.config, run_page)


if __name__ == "__main__":
    raise SystemExit(main())
