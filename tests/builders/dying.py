"""A process that kills itself at a named step: python -m tests.builders.dying STEP TIME MODULE [ARGUMENT ...]

TIME counts from 1: at which passing of the step it dies. The product knows nothing of this.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """Before or after a function, named ``module:attribute.attribute``."""

    when: str
    function: str


def before(function: str) -> Step:
    return Step("before", function)


def after(function: str) -> Step:
    return Step("after", function)


LISTENER = {
    "mid-PDU": after("dicom_node.network.guards:_read"),
    "before the file is written": before("dicom_node.storage.local:LocalStore._put"),
    "before rename": before("pathlib:Path.rename"),
    "after rename": after("pathlib:Path.rename"),
    "before the index row": before("dicom_node.intake.index:Index._add_together"),
    "before the row is committed": after("dicom_node.intake.index:Index._add_one"),
    "after the index row": after("dicom_node.intake.index:Index._add_together"),
    "before the response": before("dicom_node.network.stores:store_response"),
}
STAGES = (
    "select", "load", "segment", "generate", "respond", "check_images", "describe", "survive", "compare",
)  # fmt: skip
WORKER = {
    "before results are durable": before("dicom_node.storage.local:LocalStore.keep"),
    "after results are durable": after("dicom_node.storage.local:LocalStore.keep"),
    "before results are accepted": before("dicom_node.jobs.ledger:Ledger.accept_results"),
    "inside the transaction that accepts": after("dicom_node.jobs.ledger:Ledger.add_object"),
    "after results are accepted": after("dicom_node.jobs.ledger:Ledger.accept_results"),
    **{f"before stage {name}": before(f"inference.pipeline:{name}") for name in STAGES},
}
OUTBOX = {
    "before an object is sent": before("dicom_node.network.scu:StoreSession.store"),
    "after an object is sent": after("dicom_node.network.scu:StoreSession.store"),
    "before a change is noted": before("dicom_node.courier:Courier._change"),
    "between send and commitment": before("dicom_node.courier:request_commitment"),
    "between request and its answer": after("dicom_node.courier:request_commitment"),
    "between commitment and read-back": before("dicom_node.courier:Courier._read_back_series"),
}
STEPS = {**LISTENER, **WORKER, **OUTBOX}


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(step: Step, time: int) -> None:
    """Replace the function of a step by one that dies at its `time`-th call."""
    module, _, path = step.function.partition(":")
    *holders, name = path.split(".")
    holder: Any = importlib.import_module(module)
    for one in holders:
        holder = getattr(holder, one)
    original: Callable[..., Any] = getattr(holder, name)
    calls = 0

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if step.when == "before" and calls == time:
            _die()
        done = original(*arguments, **named)
        if step.when == "after" and calls == time:
            _die()
        return done

    setattr(holder, name, dying)


def main() -> None:
    """Arm the step and run the module as a program."""
    step, time, module = sys.argv[1:4]
    sys.argv = [module, *sys.argv[4:]]
    arm(STEPS[step], int(time))
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
