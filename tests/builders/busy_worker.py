"""A worker whose jobs need the processor only: python -m tests.builders.busy_worker DATA_DIR URL WORK."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.jobs.engine import Job, Report
from dicom_node.jobs.opening import open_engine
from dicom_node.settings import JobSettings
from dicom_node.signals import stop_on_signals

IDLE_S = 0.02


def main() -> None:
    """Work until SIGTERM."""
    folder, url, work = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    stop = stop_on_signals()
    database = open_database(folder, url)
    engine = open_engine(JobSettings(), database, system_clock, f"busy:{os.getpid()}")

    def count(_job: Job, report: Report) -> None:
        total = 0
        for number in range(work):
            total += number
        report(str(total), 1.0)

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not stop.is_set():
        if not engine.run_one(count):
            stop.wait(IDLE_S)
    database.dispose()


if __name__ == "__main__":
    main()
