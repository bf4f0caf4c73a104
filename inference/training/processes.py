"""Many pieces of work by several processes, in the order in which they were asked for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def in_order(
    function: Callable[[_Item], _Found], items: Sequence[_Item], workers: int, at_once: int = 1
) -> Iterator[_Found]:
    """Yield what a function makes of each item; the number of processes changes nothing of it.

    Parameters
    ----------
    workers : int
        Processes; with one, the work is done in this one.
    at_once : int
        Items for which the function, and all that it carries, is sent to a process again.
    """
    if workers <= 1 or len(items) <= 1:
        yield from map(function, items)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=one_thread) as pool:
        yield from pool.map(function, items, chunksize=at_once)


def one_thread() -> None:
    """Keep processes that share the processor's cores from each using all of them."""
    import torch

    torch.set_num_threads(1)
