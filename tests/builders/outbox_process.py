"""The outbox in a process of its own, to be killed: python -m tests.builders.outbox_process CONFIG"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.outbox import Outbox
from dicom_node.settings import load_settings


def main() -> None:
    settings = load_settings([Path(sys.argv[1])])
    Outbox(settings, open_database(settings.data_dir), system_clock).run(threading.Event())


if __name__ == "__main__":
    main()
