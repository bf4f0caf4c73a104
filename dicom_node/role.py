"""What every process of the node does around its work: settings, log, signals, exit code."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.logs import configure_logging
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.signals import stop_on_signals

_log = logging.getLogger(__name__)

WRONG_CONFIGURATION = 2

Work = Callable[[NodeSettings, threading.Event], None]


def run_role(name: str, files: Sequence[Path], work: Work) -> int:
    """Do the work of a process until SIGTERM or SIGINT; return its exit code.

    Parameters
    ----------
    name : str
        Of the process, in its log.
    files : sequence of Path
        Settings over the packaged defaults.
    """
    stop = stop_on_signals()
    try:
        settings = load_settings(files)
        configure_logging(name, settings.log)
        work(settings, stop)
    except ConfigurationError as error:
        _log.error("%s", error)
        return WRONG_CONFIGURATION
    return 0
