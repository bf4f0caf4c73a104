from __future__ import annotations

import threading

import pytest

from dicom_node.repeating import repeated


def test_what_fails_is_done_again_and_its_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    turns = threading.Semaphore(0)

    def work() -> None:
        turns.release()
        raise ValueError("".join(("Jane", " ", "Doe")))

    with repeated("counting", work, 0.01):
        for _ in range(3):
            assert turns.acquire(timeout=10)
    assert "counting failed" in caplog.text
    assert "Jane Doe" not in caplog.text


def test_nothing_runs_after_the_block() -> None:
    turns: list[int] = []
    with repeated("counting", lambda: turns.append(1), 0.001):
        threading.Event().wait(0.05)
    count = len(turns)
    threading.Event().wait(0.02)
    assert count == len(turns) > 0
