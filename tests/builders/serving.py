"""A whole node as a site runs it: ``hepatocast serve`` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dicom_node.clock import system_clock
from dicom_node.database import open_database
from dicom_node.jobs.ledger import Ledger, RevisionRow
from dicom_node.settings import NodeSettings, load_settings
from tests.builders.waiting import until


@dataclass(frozen=True)
class ServingNode:
    """A running node: its settings, its log, and what its ledger says."""

    config: Path
    settings: NodeSettings
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def ledger(self) -> Ledger:
        return Ledger(open_database(self.settings.data_dir), system_clock)

    def revisions(self) -> tuple[RevisionRow, ...]:
        return self.ledger.revisions()

    def until_state(self, state: str, number: int = 1, within_s: float = 180.0) -> RevisionRow:
        """Wait until the revision with this number is in a state; fail with its reason otherwise."""
        ledger = self.ledger

        def reached() -> RevisionRow | None:
            found = [r for r in ledger.revisions() if r.number == number]
            return found[0] if found and str(found[0].state) == state else None

        try:
            return until(reached, within_s, every_s=0.1)
        except AssertionError:
            found = [(str(r.state), r.reason) for r in ledger.revisions()]
            tail = self.log.read_text(errors="replace")[-3000:]
            raise AssertionError(f"not {state} but {found}\n{tail}") from None


@contextmanager
def serving(folder: Path, port: int, **settings: Any) -> Iterator[ServingNode]:
    """Run a node on `port` with its data below `folder`; further arguments are settings."""
    listener = {"port": port, "minimum_free_bytes": 0, **settings.pop("listener", {})}
    settings.setdefault("web", {"enabled": False})
    content = {"data_dir": str(folder / "data"), "listener": listener, **settings}
    config = folder / "site.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    log = folder / "node.log"
    command = [sys.executable, "-m", "dicom_node.cli.main", "serve", "--config", str(config)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            until((folder / "data" / "listener.port").exists, within_s=60)
            yield ServingNode(config, load_settings([config]), log, process)
        finally:
            process.terminate()
            process.wait(60)
