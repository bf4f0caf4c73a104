"""A worker that returns one small object of each study, without a model.

It has the node's own engine, ledger and worker, and what it makes is delivered by the node's own outbox.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial

from dicom_node.clock import system_clock
from dicom_node.database import node_database
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import Ledger, Plan, ResultRow
from dicom_node.jobs.opening import open_engine
from dicom_node.network.scu import read_part10
from dicom_node.settings import NodeSettings
from dicom_node.worker import JobOrder, Worker
from inference.provenance import MANUFACTURER
from tests.builders.dicom_files import ct_slice, uid_of


def execute(settings: NodeSettings, order: JobOrder, report: Report) -> Sequence[ResultRow]:
    """Make one slice in a series of its own; its UID is of the revision, so that a second one shows."""
    report("making", 0.5)
    study = order.revision.study_instance_uid
    ds = ct_slice(study, uid_of(study, "result", order.revision.id), rows=8)
    ds.Manufacturer = MANUFACTURER
    path = order.folder / "result.dcm"
    ds.save_as(path, enforce_file_format=True)
    return [
        ResultRow(
            peer=peer,
            kind="virtual_series",
            sop_class_uid=str(ds.SOPClassUID),
            sop_instance_uid=str(ds.SOPInstanceUID),
            study_instance_uid=study,
            series_instance_uid=str(ds.SeriesInstanceUID),
            path=str(path.relative_to(settings.data_dir)),
            sha256=read_part10(path).sha256,
        )
        for peer in Plan.from_json(order.revision.plan).send_to
    ]


def run_light_worker(settings: NodeSettings, stop: threading.Event) -> None:
    """Work until `stop` is set."""
    database = node_database(settings)
    engine = open_engine(settings.jobs, database, system_clock, "light worker")
    ledger = Ledger(database, system_clock)
    Worker(engine, ledger, partial(execute, settings), settings.data_dir).run(stop)
    database.dispose()
