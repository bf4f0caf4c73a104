"""Keeps the node's processes running: each is started again when it ends, however it ended."""

from __future__ import annotations

import ctypes
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from dicom_node.clock import Clock

_log = logging.getLogger(__name__)

RESTART_AFTER_S = (0.2, 1.0, 5.0, 15.0, 30.0)
"""Waits before the first, second, ... restart in a row; the last one repeats."""
STABLE_AFTER_S = 60.0
"""A process that ran this long has its count of restarts set back."""
STOP_WITHIN_S = 20.0
WATCH_EVERY_S = 0.2
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Role:
    """One process of the node: its name in logs and its command line."""

    name: str
    command: tuple[str, ...]


def module_role(name: str, module: str, *arguments: str) -> Role:
    """Return the role that runs ``python -m module arguments``."""
    return Role(name, (sys.executable, "-m", module, *arguments))


def _end_with_parent() -> None:
    """Ask Linux to send SIGTERM to this process when the supervisor is gone, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class _Child:
    role: Role
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    due_at: float = 0.0


@dataclass
class Supervisor:
    """Starts one process for each role, and watches until it is told to stop."""

    roles: Sequence[Role]
    clock: Clock
    _children: list[_Child] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Keep all processes running until `stop` is set; then end them in reverse order."""
        self._children = [_Child(role) for role in self.roles]
        try:
            while not stop.is_set():
                for child in self._children:
                    self._watch(child)
                stop.wait(WATCH_EVERY_S)
        finally:
            for child in reversed(self._children):
                self._end(child)

    def _watch(self, child: _Child) -> None:
        now = self.clock()
        if child.process is None:
            if now >= child.due_at:
                child.process = subprocess.Popen(child.role.command, preexec_fn=_end_with_parent)
                child.started_at = now
            return
        code = child.process.poll()
        if code is None:
            return
        if now - child.started_at >= STABLE_AFTER_S:
            child.restarts = 0
        wait = RESTART_AFTER_S[min(child.restarts, len(RESTART_AFTER_S) - 1)]
        _log.warning("%s ended with code %s and starts again in %.1f s", child.role.name, code, wait)
        child.restarts += 1
        child.due_at = now + wait
        child.process = None

    def _end(self, child: _Child) -> None:
        if child.process is None or child.process.poll() is not None:
            return
        child.process.terminate()
        try:
            child.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            _log.warning("%s did not stop within %.0f s and is killed", child.role.name, STOP_WITHIN_S)
            child.process.kill()
            child.process.wait()
