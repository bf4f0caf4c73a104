"""Work that is done again and again in a thread of its own, whatever the clock on the wall does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dicom_node.logs import frames

_log = logging.getLogger(__name__)


@contextmanager
def repeated(name: str, work: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do work every so often until the block ends, the first time after `every_s`.

    The wait counts from the end of the work, so that it never runs twice at once. What it raises is
    logged, and it is done again at its next turn.
    """
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            try:
                work()
            except Exception as error:  # noqa: BLE001 - boundary: one failure never ends what repeats
                _log.error("%s failed with %s", name, frames(error))

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
