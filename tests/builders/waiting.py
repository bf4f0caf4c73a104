"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], within_s: float = 20.0, every_s: float = 0.02) -> T:
    """Poll `condition` until it is true and return its value; fail after `within_s`."""
    pause = threading.Event()
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {within_s} s: {condition}")
        pause.wait(every_s)
