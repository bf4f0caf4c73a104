"""Threads that add at one time share the work, and each gets its own result."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from dicom_node.intake.additions import Additions
from tests.builders.waiting import until


def test_all_that_wait_go_together_in_their_order() -> None:
    batches: list[list[int]] = []
    first_may_end = threading.Event()

    def work(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        if len(batches) == 1:
            first_may_end.wait(20)
        return [item * 10 for item in items]

    additions: Additions[int, int] = Additions(work, ValueError)
    results: dict[int, int] = {}

    def add(item: int) -> None:
        results[item] = additions.add(item)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(6)]
    threads[0].start()
    until(lambda: batches)
    for number, thread in enumerate(threads[1:], 1):
        thread.start()
        until(lambda number=number: len(additions._waiting) == number)
    first_may_end.set()
    for thread in threads:
        thread.join()
    assert batches == [[0], [1, 2, 3, 4, 5]]
    assert results == {n: n * 10 for n in range(6)}


def test_one_that_fails_does_not_take_the_others_with_it() -> None:
    held = threading.Event()
    tried: list[list[int]] = []

    def work(items: Sequence[int]) -> list[int]:
        tried.append(list(items))
        if items == [0]:
            held.wait(20)
        if 2 in items:
            raise ValueError("two")
        return list(items)

    additions: Additions[int, int] = Additions(work, ValueError)
    ends: dict[int, object] = {}

    def add(item: int) -> None:
        try:
            ends[item] = additions.add(item)
        except ValueError as error:
            ends[item] = str(error)

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    threads[0].start()
    until(lambda: tried)
    for number, thread in enumerate(threads[1:], 1):
        thread.start()
        until(lambda number=number: len(additions._waiting) == number)
    held.set()
    for thread in threads:
        thread.join()
    assert ends == {0: 0, 1: 1, 2: "two", 3: 3}
    assert tried == [[0], [1, 2, 3], [1], [2], [3]]


def test_a_failure_is_raised_to_whom_it_belongs_and_the_next_goes_on() -> None:
    def work(items: Sequence[int]) -> list[int]:
        if items == [1]:
            raise ValueError("one")
        return list(items)

    additions: Additions[int, int] = Additions(work, ValueError)
    with pytest.raises(ValueError, match="one"):
        additions.add(1)
    assert additions.add(2) == 2
