"""The node's processes besides the listener, each wired from settings.

python -m dicom_node.processes steward --config FILE   assembly, delivery and everything timed
python -m dicom_node.processes worker --config FILE    forecasts
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa

from dicom_node.audit.events import AuditEvents, activity
from dicom_node.audit.queries import RecordedPacs
from dicom_node.audit.trail import AuditTrail
from dicom_node.batch.reprocessing import BatchStudies
from dicom_node.bundles.activation import Activations, models_key
from dicom_node.bundles.loading import model_choice
from dicom_node.clock import system_clock
from dicom_node.clock_set_back import LOOK_EVERY_S, ClockWatch
from dicom_node.database import node_database
from dicom_node.execution import forecasting
from dicom_node.intake.assembler import Assembler, Pacs
from dicom_node.intake.index import Index, received_whole
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.opening import open_engine
from dicom_node.leadership import leading
from dicom_node.network.query import Fetched, PeerQuery
from dicom_node.network.scu import echo
from dicom_node.observation.alerts import AlertService, Looked, PeerWatch
from dicom_node.observation.channels import channels
from dicom_node.observation.heartbeats import signs_of_life
from dicom_node.observation.work import WorkCounts
from dicom_node.outbox import Outbox
from dicom_node.repeating import repeated
from dicom_node.retention import Retention
from dicom_node.role import Work, run_role
from dicom_node.routing.rules import Router
from dicom_node.settings import NodeSettings
from dicom_node.storage.opening import open_spool, open_store
from dicom_node.worker import Worker

ASSEMBLY_EVERY_S = 0.5
RETENTION_EVERY_S = 3600
FINISH_EVERY_S = 30
TRAIL_EVERY_S = 1
OVERTIME = 70
"""Exit status of a worker whose job ran past its time limit."""
REPLACED = 71
"""Exit status of a steward that could not renew its lease, so that another one has its place."""


def _ending(status: int) -> Callable[[], None]:
    """Return what ends this process at once, whatever its other threads do."""

    def end_process() -> None:
        logging.shutdown()
        os._exit(status)

    return end_process


def _owner(settings: NodeSettings) -> str:
    """Return the name of this process in leases: one of its kind on all machines."""
    return f"{settings.storage.machine}:{os.getpid()}"


def run_worker(settings: NodeSettings, stop: threading.Event) -> None:
    """Execute jobs until `stop` is set."""
    database = node_database(settings)
    engine = open_engine(settings.jobs, database, system_clock, _owner(settings), _ending(OVERTIME))
    choice = model_choice(Activations(database, settings.data_dir, system_clock), settings)
    ledger = Ledger(database, system_clock)
    store = open_store(settings, f"worker-{os.getpid()}")
    counts = WorkCounts(database)
    worker = Worker(engine, ledger, forecasting(settings), settings.data_dir, choice, store, counts)
    with activity(database, system_clock, "worker"), signs_of_life(database, system_clock, "worker"):
        worker.run(stop)
    database.dispose()


def _pacs(settings: NodeSettings, index: Index, events: AuditEvents) -> Pacs | None:
    """Return the peer that is asked whether a study is complete; what is fetched goes into the spool."""
    if settings.assembly.confirm_with is None:
        return None
    peer = settings.peer(settings.assembly.confirm_with)

    def take(fetched: Fetched) -> None:
        index.accept(received_whole(fetched.data_set, fetched.transfer_syntax_uid, peer.ae_title))

    return RecordedPacs(PeerQuery(peer, settings.listener.ae_title, take), peer.name, events)


def run_steward(settings: NodeSettings, stop: threading.Event) -> None:
    """Assemble studies, deliver results and keep house until `stop` is set, once no other steward does."""
    database = node_database(settings)
    lost = _ending(REPLACED)
    try:
        with leading(database, settings.data_dir, _owner(settings), stop, lost) as leads:
            if leads:
                _lead(settings, database, stop)
    finally:
        database.dispose()


def _lead(settings: NodeSettings, database: sa.Engine, stop: threading.Event) -> None:
    ledger = Ledger(database, system_clock)
    engine = open_engine(settings.jobs, database, system_clock, _owner(settings))
    spool = open_spool(settings, "steward-fetched")
    store = open_store(settings, f"steward-{os.getpid()}")
    activations = Activations(database, settings.data_dir, system_clock)
    assembler = Assembler(
        database=database,
        ledger=ledger,
        engine=engine,
        router=Router(settings.rules, settings.peers),
        settings=settings.assembly,
        data_dir=settings.data_dir,
        clock=system_clock,
        pacs=_pacs(settings, Index(database, spool, system_clock), AuditEvents(database, system_clock)),
        elsewhere=store.apart("assembly"),
        models=lambda: models_key(activations.named_in_force(), settings.models),
        reprocessing=BatchStudies(database, settings.batch, settings.assembly.maximum_wait_s),
    )
    retention = Retention(database, settings.retention, store.apart("retention"), system_clock)
    outbox = Outbox(settings, database, system_clock, store, retention.remove_results)
    trail = AuditTrail(settings, database, system_clock, store.apart("audit"))
    watch = PeerWatch(settings, system_clock, echo)
    alerts = AlertService(Looked(settings, database, system_clock, watch), channels(settings.alerts))
    clocks = ClockWatch(database, settings, system_clock)
    clocks.step()
    try:
        with ExitStack() as during:
            for name, work, every_s in (
                ("assembly", assembler.step, ASSEMBLY_EVERY_S),
                ("clock watch", clocks.step, LOOK_EVERY_S),
                ("audit trail", trail.step, TRAIL_EVERY_S),
                ("alerts", alerts.step, settings.alerts.check_every_s),
                ("removal of what was delivered", outbox.remove_delivered, RETENTION_EVERY_S),
                ("retention", retention.step, RETENTION_EVERY_S),
                ("end of retention", retention.finish, FINISH_EVERY_S),
            ):
                during.enter_context(repeated(name, work, every_s))
            during.enter_context(activity(database, system_clock, "steward"))
            during.enter_context(signs_of_life(database, system_clock, "steward"))
            outbox.run(stop)
    finally:
        trail.step()
        trail.close()


ROLES: Mapping[str, Work] = {
    "steward": run_steward,
    "worker": run_worker,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one process of the node until SIGTERM or SIGINT; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m dicom_node.processes", description=__doc__)
    parser.add_argument("role", choices=sorted(ROLES))
    parser.add_argument("--config", action="append", type=Path, default=[])
    chosen = parser.parse_args(arguments)
    return run_role(chosen.role, chosen.config, ROLES[chosen.role])


if __name__ == "__main__":
    sys.exit(main())
