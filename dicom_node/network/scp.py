"""The listener: one process that receives, and does nothing else.

Run it as ``python -m dicom_node.network.scp --config FILE...``. It imports nothing of the
pipeline, writes the port that it listens on to ``data_dir/listener.port``
(and a second one, with TLS, to ``data_dir/listener-tls.port``), and ends on SIGTERM or
SIGINT after the messages that are being served.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dicom_node.clock import Clock, system_clock
from dicom_node.database import node_database
from dicom_node.errors import ConfigurationError
from dicom_node.intake.index import Index
from dicom_node.intake.spool import FreeBytes, free_bytes
from dicom_node.logs import frames
from dicom_node.network.admission import Admission, admission
from dicom_node.network.contexts import supported_contexts
from dicom_node.network.handlers import Handlers
from dicom_node.network.tls import server_context
from dicom_node.network.transport import GuardedServer, Port, Service, shared
from dicom_node.observation.listener import observing
from dicom_node.role import run_role
from dicom_node.settings import ListenerSettings, NodeSettings
from dicom_node.signals import wait_for
from dicom_node.storage.opening import is_shared, open_spool

_log = logging.getLogger(__name__)

STOP_WITHIN_S = 15.0
M_ARENA_MAX = -8
"""Parameter of glibc's mallopt (malloc.h)."""
MEMORY_POOLS = 2


Observed = Callable[[Service], Service]
"""Puts something around a service that counts what it does."""


def port_file(data_dir: Path) -> Path:
    """Return the file that holds the listener's port while it runs."""
    return data_dir / "listener.port"


def tls_port_file(data_dir: Path) -> Path:
    """Return the file that holds the listener's second port, the one with TLS, while it runs."""
    return data_dir / "listener-tls.port"


@contextmanager
def listening(
    settings: NodeSettings,
    clock: Clock = system_clock,
    free: FreeBytes = free_bytes,
    observed: Observed = lambda service: service,
) -> Iterator[GuardedServer]:
    """Receive in threads of this process until the block ends; yields the server of the first port.

    The spool is swept and reconciled with the index before the first connection is accepted.

    Raises
    ------
    ConfigurationError
        Another listener has the data folder, a port is taken, or a TLS file cannot be used.
    """
    engine = node_database(settings)
    spool = open_spool(settings, "listener", free)
    with spool.held():
        index = Index(engine, spool, clock)
        _tidy(index, settings)
        handlers = Handlers(index, engine, clock, frozenset(p.ae_title for p in settings.peers))
        servers = _servers(settings, handlers, admission(settings, spool), observed)
        _announce(settings.data_dir, servers)
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.1,), name="accept", daemon=True).start()
            secured = "" if server.ssl_context is None else " with TLS"
            _log.info("%s listens on port %d%s", settings.listener.ae_title, server.port, secured)
        try:
            yield servers[0]
        finally:
            for file in (port_file(settings.data_dir), tls_port_file(settings.data_dir)):
                file.unlink(missing_ok=True)
            for server in servers[1:]:
                server.stop_accepting()
            servers[0].stop(STOP_WITHIN_S)
            engine.dispose()
            _log.info("the listener has stopped")


def _tidy(index: Index, settings: NodeSettings) -> None:
    """Bring disk and index together; where machines share the files, only remove what was half written.

    A file without a row was never acknowledged, so that its sender repeats it. Alone, the node gives it its
    row at once; on shared files it may be another listener's, of this moment, and a walk over all studies
    of a hospital group would hold up every start.
    """
    if is_shared(settings):
        _log.info("%d half written files removed", index.spool.sweep())
    else:
        index.reconcile()


def _ports(listener: ListenerSettings) -> list[Port]:
    """Return the ports of a configuration: one, or one without TLS and one with it."""
    if listener.tls is None:
        return [Port(listener.port)]
    context = server_context(listener.tls)
    if listener.tls.port is None:
        return [Port(listener.port, context)]
    return [Port(listener.port), Port(listener.tls.port, context)]


def _servers(
    settings: NodeSettings, handlers: Handlers, decide: Admission, observed: Observed
) -> list[GuardedServer]:
    listener = settings.listener
    contexts = supported_contexts(settings.clinical.sop_classes)
    service = observed(Service(contexts, handlers.keep, list(handlers.table())))
    together = shared(listener)
    servers: list[GuardedServer] = []
    for port in _ports(listener):
        try:
            servers.append(GuardedServer(listener, service, decide, port, together))
        except OSError as error:
            for server in servers:
                server.server_close()
            raise ConfigurationError(
                f"cannot listen on {listener.host}:{port.number} ({error.strerror}); "
                "set listener.host and listener.port"
            ) from error
    return servers


def _announce(data_dir: Path, servers: Sequence[GuardedServer]) -> None:
    """Write each port to its file in one step, the first port last."""
    files = (port_file(data_dir), tls_port_file(data_dir))
    for target, server in reversed(list(zip(files, servers, strict=False))):
        temporary = target.with_suffix(".part")
        temporary.write_text(f"{server.port}\n", encoding="ascii")
        os.replace(temporary, target)  # noqa: PTH105 - the atomic one by name


def run_listener(
    settings: NodeSettings, stop: threading.Event, ready: Callable[[int], None] = lambda _port: None
) -> None:
    """Receive until `stop` is set; `ready` is called with the port once connections are accepted."""
    database = node_database(settings)
    with observing(database, system_clock) as observer:
        with listening(settings, observed=observer.observed) as server:
            _spare_the_collector()
            ready(server.port)
            wait_for(stop)
    database.dispose()


def _spare_the_collector() -> None:
    """Keep what the start made, which stays to the end, out of all later garbage collections."""
    gc.collect()
    gc.freeze()


def _log_dead_thread(arguments: threading.ExceptHookArgs) -> None:
    """Log what ended a thread; its association ends with it, and the listener goes on."""
    error = arguments.exc_value or arguments.exc_type()
    _log.error("a thread of the listener ended: %s", frames(error))


def _share_memory_between_threads() -> None:
    """Ask glibc for few memory pools: by default many threads keep up to eight for each core.

    With a thread for each association, what one of them gave back would not serve the others.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(M_ARENA_MAX, MEMORY_POOLS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the listener process; return its exit code."""
    _share_memory_between_threads()
    parser = argparse.ArgumentParser(prog="python -m dicom_node.network.scp")
    parser.add_argument("--config", type=Path, action="append", default=[], help="settings over the defaults")
    options = parser.parse_args(arguments)
    threading.excepthook = _log_dead_thread
    return run_role("listener", options.config, run_listener)


if __name__ == "__main__":
    raise SystemExit(main())
