"""Additions of several threads that share one transaction, and so one flush of the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Entry(Generic[Item, Result]):
    item: Item
    results: Sequence[Result] = ()
    error: Exception | None = None
    done: bool = False


class Additions(Generic[Item, Result]):
    """Hands items to `work` in the order in which they came, all that wait at one time together.

    Whoever gets the turn does the work of all who wait; they find theirs done when they get it.

    Attributes
    ----------
    turn : Lock
        Held while `work` runs; for others that must not run beside it.
    """

    def __init__(self, work: Callable[[Sequence[Item]], Sequence[Result]], failures: type[Exception]) -> None:
        self._work = work
        self._failures = failures
        self._waiting: list[_Entry[Item, Result]] = []
        self._lock = threading.Lock()
        self.turn = threading.Lock()

    def add(self, item: Item) -> Result:
        """Return what `work` gives for an item, or raise what it raised for it."""
        entry: _Entry[Item, Result] = _Entry(item)
        with self._lock:
            self._waiting.append(entry)
        with self.turn:
            if not entry.done:
                with self._lock:
                    batch, self._waiting = self._waiting, []
                self._do(batch)
        if entry.error is not None:
            raise entry.error
        return entry.results[0]

    def _do(self, batch: Sequence[_Entry[Item, Result]]) -> None:
        try:
            results = self._work([entry.item for entry in batch])
        except self._failures as error:
            if len(batch) > 1:  # one of them may be to blame; the others are not made to fail with it
                for entry in batch:
                    self._do([entry])
                return
            batch[0].error = error
        else:
            for entry, result in zip(batch, results, strict=True):
                entry.results = (result,)
        finally:
            for entry in batch:
                entry.done = True
