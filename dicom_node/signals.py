"""Ending a process by SIGTERM or SIGINT without losing the signal or locking up."""

from __future__ import annotations

import signal
import threading
from types import FrameType

WAKE_S = 1.0
"""Python runs signal handlers in the main thread, which must not sleep longer than this: the kernel may
give the signal to another thread, and then nothing wakes the main one."""


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; call it in the main thread.

    The event is set by a thread of its own: the handler may interrupt the main thread inside the event's
    own lock, which it could never take a second time.
    """
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=stop.set, name="stop").start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stop


def wait_for(stop: threading.Event) -> None:
    """Block the main thread until the event is set."""
    while not stop.wait(WAKE_S):
        pass
