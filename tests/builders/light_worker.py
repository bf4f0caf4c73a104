"""A worker process that writes small files: python -m tests.builders.light_worker DATA_DIR PAUSE_S.

It has the node's own engine, ledger and worker; only the forecast is left out.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import Ledger, ResultRow
from dicom_node.jobs.sqlite_engine import SqliteEngine
from dicom_node.settings import JobSettings
from dicom_node.worker import JobOrder, Worker

FILES = 8
JOBS = JobSettings(lease_s=1.0, heartbeat_s=0.2, maximum_attempts=50, backoff_s=(0.1,), time_limit_s=60.0)


def execute(pause_s: float, order: JobOrder, report: Report) -> list[ResultRow]:
    """Write the files of one revision, slowly enough to be killed between any two."""
    rows = []
    data_dir = order.folder.parents[2]
    study_uid = order.revision.study_instance_uid
    for number in range(FILES):
        report("writing", number / FILES)
        uid = f"2.25.{order.revision.id}{number}"
        path = order.folder / f"{number}.dcm"
        path.write_text(uid)
        threading.Event().wait(pause_s)
        relative = str(path.relative_to(data_dir))
        rows.append(ResultRow("pacs", "report", "1.2", uid, study_uid, "2.25.1", relative, "0" * 64))
    return rows


def main() -> None:
    """Work until SIGTERM."""
    data_dir, pause_s = Path(sys.argv[1]), float(sys.argv[2])
    database = open_database(data_dir)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    engine = SqliteEngine(database, JOBS, system_clock, f"worker-{os.getpid()}")
    Worker(engine, Ledger(database, system_clock), partial(execute, pause_s), data_dir).run(stop)
    database.dispose()


if __name__ == "__main__":
    main()
