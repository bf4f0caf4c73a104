"""The listener: one process that receives, and does nothing else.

Run it as ``python -m dicom_node.network.scp --config FILE...``. It imports nothing of the
pipeline, writes the port that it listens on to ``data_dir/listener.port``, and ends on SIGTERM or
SIGINT after the messages that are being served.
"""

from __future__ import annotations

import argparse
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_node.clock import Clock, system_clock
from dicom_node.database import open_database
from dicom_node.errors import ConfigurationError
from dicom_node.intake.index import Index
from dicom_node.intake.spool import FreeBytes, Spool, free_bytes
from dicom_node.logs import frames
from dicom_node.network.contexts import supported_contexts
from dicom_node.network.handlers import Handlers
from dicom_node.network.transport import (
    CALLED_AE_UNKNOWN,
    CALLING_AE_UNKNOWN,
    CONGESTED,
    Admission,
    GuardedServer,
    Rejection,
)
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.signals import stop_on_signals, wait_for

_log = logging.getLogger(__name__)

STOP_WITHIN_S = 15.0
WRONG_CONFIGURATION = 2


def port_file(data_dir: Path) -> Path:
    """Return the file that holds the listener's port while it runs."""
    return data_dir / "listener.port"


def admission(settings: NodeSettings, spool: Spool) -> Admission:
    """Return who may associate: known calling AE titles that call ours, while there is room."""
    listener = settings.listener
    known = {t.strip() for t in listener.allowed_calling_ae_titles} | {p.ae_title for p in settings.peers}

    def decide(calling: str, called: str) -> Rejection | None:
        if called != listener.ae_title:
            return CALLED_AE_UNKNOWN
        if not listener.allow_any_calling_ae_title and calling not in known:
            return CALLING_AE_UNKNOWN
        return None if spool.has_room() else CONGESTED

    return decide


@contextmanager
def listening(
    settings: NodeSettings, clock: Clock = system_clock, free: FreeBytes = free_bytes
) -> Iterator[GuardedServer]:
    """Receive in threads of this process until the block ends.

    The spool is swept and reconciled with the index before the first connection is accepted.

    Raises
    ------
    ConfigurationError
        Another listener has the data folder, or the port is taken.
    """
    engine = open_database(settings.data_dir)
    spool = Spool(settings.data_dir, settings.listener.minimum_free_bytes, free)
    with spool.held():
        index = Index(engine, spool, clock)
        index.reconcile()
        handlers = Handlers(index, engine, clock, frozenset(p.ae_title for p in settings.peers))
        server = _server(settings, handlers, admission(settings, spool))
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="accept", daemon=True)
        thread.start()
        _announce(settings.data_dir, server.port)
        _log.info("%s listens on port %d", settings.listener.ae_title, server.port)
        try:
            yield server
        finally:
            port_file(settings.data_dir).unlink(missing_ok=True)
            server.stop(STOP_WITHIN_S)
            engine.dispose()
            _log.info("the listener has stopped")


def _server(settings: NodeSettings, handlers: Handlers, decide: Admission) -> GuardedServer:
    listener = settings.listener
    try:
        contexts = supported_contexts(settings.clinical.sop_classes)
        return GuardedServer(listener, contexts, list(handlers.table()), decide)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {listener.host}:{listener.port} ({error.strerror}); "
            "set listener.host and listener.port"
        ) from error


def _announce(data_dir: Path, port: int) -> None:
    """Write the port to its file in one step."""
    target = port_file(data_dir)
    temporary = target.with_suffix(".part")
    temporary.write_text(f"{port}\n", encoding="ascii")
    os.replace(temporary, target)  # noqa: PTH105 - the atomic one by name


def run_listener(
    settings: NodeSettings, stop: threading.Event, ready: Callable[[int], None] = lambda _port: None
) -> None:
    """Receive until `stop` is set; `ready` is called with the port once connections are accepted."""
    with listening(settings) as server:
        ready(server.port)
        wait_for(stop)


def _log_dead_thread(arguments: threading.ExceptHookArgs) -> None:
    """Log what ended a thread; its association ends with it, and the listener goes on."""
    error = arguments.exc_value or arguments.exc_type()
    _log.error("a thread of the listener ended: %s", frames(error))


def _quiet_libraries() -> None:
    """Keep what the libraries say of every message, and the values that they quote, out of the log."""
    logging.captureWarnings(True)
    for name in ("pynetdicom", "pydicom", "py.warnings"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the listener process; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dicom_node.network.scp")
    parser.add_argument("--config", type=Path, action="append", default=[], help="settings over the defaults")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _quiet_libraries()
    threading.excepthook = _log_dead_thread
    stop = stop_on_signals()
    try:
        run_listener(load_settings(options.config), stop)
    except ConfigurationError as error:
        _log.error("%s", error)
        return WRONG_CONFIGURATION
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
