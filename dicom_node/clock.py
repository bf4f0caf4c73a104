"""Time, passed in wherever it is needed."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds since the epoch, UTC."""

system_clock: Clock = time.time


def still_waits(until: float, now: float, longest_s: float) -> bool:
    """Return whether a wait lasts; one that ends further ahead began before the clock was set back."""
    return 0 < until - now < longest_s + 1
