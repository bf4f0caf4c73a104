"""The node's processes besides the listener, each wired from settings.

python -m dicom_node.processes steward --config FILE   assembly, delivery and everything timed
python -m dicom_node.processes worker --config FILE    forecasts
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from io import BytesIO
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler

from dicom_node.bundles.activation import Activations, models_key
from dicom_node.bundles.loading import model_choice
from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.errors import ConfigurationError
from dicom_node.execution import forecasting
from dicom_node.intake.assembler import Assembler
from dicom_node.intake.header import read_header
from dicom_node.intake.index import Index, Received
from dicom_node.intake.spool import Spool
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.sqlite_engine import SqliteEngine
from dicom_node.network.query import Fetched, PeerQuery
from dicom_node.outbox import Outbox
from dicom_node.routing.rules import Router
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.signals import stop_on_signals
from dicom_node.worker import Worker

_log = logging.getLogger(__name__)

ASSEMBLY_EVERY_S = 0.5
RETENTION_EVERY_S = 3600
OVERTIME = 70
"""Exit status of a worker whose job ran past its time limit."""


def run_worker(settings: NodeSettings, stop: threading.Event) -> None:
    """Execute jobs until `stop` is set."""
    database = open_database(settings.data_dir)
    owner = f"{socket.gethostname()}:{os.getpid()}"

    def end_process() -> None:
        logging.shutdown()
        os._exit(OVERTIME)

    engine = SqliteEngine(database, settings.jobs, system_clock, owner, overtime=end_process)
    choice = model_choice(Activations(database, settings.data_dir, system_clock), settings)
    ledger = Ledger(database, system_clock)
    worker = Worker(engine, ledger, forecasting(settings), settings.data_dir, choice)
    worker.run(stop)
    database.dispose()


def _pacs(settings: NodeSettings, index: Index) -> PeerQuery | None:
    """Return the peer that is asked whether a study is complete; what is fetched goes into the spool."""
    if settings.assembly.confirm_with is None:
        return None
    peer = settings.peer(settings.assembly.confirm_with)

    def take(fetched: Fetched) -> None:
        syntax = fetched.transfer_syntax_uid
        header = read_header(BytesIO(fetched.data_set), syntax)
        index.accept(Received(header, syntax, peer.ae_title, memoryview(fetched.data_set)))

    return PeerQuery(peer, settings.listener.ae_title, take)


def run_steward(settings: NodeSettings, stop: threading.Event) -> None:
    """Assemble studies, deliver results and keep house until `stop` is set."""
    database = open_database(settings.data_dir)
    ledger = Ledger(database, system_clock)
    engine = SqliteEngine(database, settings.jobs, system_clock, f"steward:{os.getpid()}")
    spool = Spool(settings.data_dir, settings.listener.minimum_free_bytes)
    activations = Activations(database, settings.data_dir, system_clock)
    assembler = Assembler(
        database=database,
        ledger=ledger,
        engine=engine,
        router=Router(settings.rules, settings.peers),
        settings=settings.assembly,
        data_dir=settings.data_dir,
        clock=system_clock,
        pacs=_pacs(settings, Index(database, spool, system_clock)),
        models=lambda: models_key(activations.named_in_force(), settings.models),
    )
    outbox = Outbox(settings, database, system_clock)
    timers = BackgroundScheduler(timezone=UTC)
    timers.add_job(assembler.step, "interval", seconds=ASSEMBLY_EVERY_S, max_instances=1, coalesce=True)
    timers.add_job(outbox.remove_delivered, "interval", seconds=RETENTION_EVERY_S, coalesce=True)
    timers.start()
    try:
        outbox.run(stop)
    finally:
        timers.shutdown()
        database.dispose()


ROLES: Mapping[str, Callable[[NodeSettings, threading.Event], None]] = {
    "steward": run_steward,
    "worker": run_worker,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the node until SIGTERM or SIGINT; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dicom_node.processes", description=__doc__)
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--config", action="append", type=Path, default=[])
    chosen = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s {chosen.role} %(name)s %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("apscheduler", "highdicom"):
        logging.getLogger(chatty).setLevel(logging.ERROR)  # a timer that is late is no news
    stop = stop_on_signals()
    try:
        ROLES[chosen.role](load_settings(chosen.config), stop)
    except ConfigurationError as error:
        _log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
