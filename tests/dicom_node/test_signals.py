"""A process ends when it is told to, whichever thread the signal reaches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from dicom_node.signals import stop_on_signals

WAITING = """
import signal, sys, threading
from dicom_node.signals import stop_on_signals, wait_for
stop = stop_on_signals()
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("ready", flush=True)
wait_for(stop)
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_event_ends_the_wait(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "ended\n"
    assert process.returncode == 0


@pytest.mark.timeout(20)
def test_a_signal_inside_the_lock_of_the_event_does_not_lock_up() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = stop_on_signals()
        with stop._cond:  # where the main thread is for a moment in every wait
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop.is_set()
        assert stop.wait(5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for thread in threading.enumerate():
            if thread.name == "stop":
                thread.join(5)
