"""A worker of a node on several machines, without models: CONFIG, pause in seconds, results, and their rows.

It has the node's own engine, ledger, store and worker; its results are small slices, not forecasts.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path

from dicom_node.clock import system_clock
from dicom_node.database import node_database
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import Ledger, ResultRow
from dicom_node.jobs.opening import open_engine
from dicom_node.network.scu import read_part10
from dicom_node.settings import load_settings
from dicom_node.signals import stop_on_signals
from dicom_node.storage.opening import open_store
from dicom_node.worker import JobOrder, Worker
from tests.builders.dicom_files import CT, ct_slice, uid_of

RESULTS, ROWS = 3, 16
"""Of one study, unless a test says otherwise."""


def execute(
    pause_s: float, results: int, rows_of_one: int, order: JobOrder, report: Report
) -> list[ResultRow]:
    """Write the results of one revision, slowly enough to be killed between any two."""
    assert all(order.files[i.path].is_file() for i in order.inputs), "an input is not here"
    study = order.revision.study_instance_uid
    series = uid_of("results", study)
    rows = []
    for number in range(1, results + 1):
        report("writing", number / results)
        ds = ct_slice(study, series, number, rows=rows_of_one)
        path = order.folder / f"{number}.dcm"
        ds.save_as(path, enforce_file_format=True)
        threading.Event().wait(pause_s)
        uid = str(ds.SOPInstanceUID)
        sha256 = read_part10(path).sha256
        rows.append(ResultRow("pacs", "report", str(CT), uid, study, series, order.key(path), sha256))
    return rows


def main() -> None:
    """Work until SIGTERM."""
    settings = load_settings([Path(sys.argv[1])])
    executed = partial(execute, float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    stop = stop_on_signals()
    database = node_database(settings)
    owner = f"{settings.storage.machine}:{os.getpid()}"
    engine = open_engine(settings.jobs, database, system_clock, owner)
    store = open_store(settings, f"worker-{os.getpid()}")
    ledger = Ledger(database, system_clock)
    Worker(engine, ledger, executed, settings.data_dir, elsewhere=store).run(stop)
    database.dispose()


if __name__ == "__main__":
    main()
