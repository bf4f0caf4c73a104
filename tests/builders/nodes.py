"""The inside of a node on one data folder, with a driven clock and no sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import sqlalchemy as sa
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_node.clock import Clock
from dicom_node.database import open_database
from dicom_node.intake.assembler import Assembler, Pacs
from dicom_node.intake.index import Index, Outcome, received_whole
from dicom_node.intake.spool import Spool
from dicom_node.jobs.ledger import Ledger, RevisionRow
from dicom_node.jobs.sqlite_engine import SqliteEngine
from dicom_node.routing.rules import Router
from dicom_node.settings import Action, AssemblySettings, JobSettings, PeerSettings, Rule

EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
PACS = PeerSettings(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
FORECAST_CT = (
    Rule(name="ct", when='series.exists(s, s.modality == "CT")', regimens=("tace",)),
    Rule(name="rest", when="true", action=Action.IGNORE, reason="no CT"),
)


def encode(ds: Dataset) -> bytes:
    """Return a data set as a sender encodes it, without file meta information."""
    buffer = BytesIO()
    plain = Dataset(ds)
    dcmwrite(buffer, plain, implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


@dataclass
class Node:
    """Index, ledger, engine and assembler of one data folder."""

    data_dir: Path
    clock: Clock
    assembly: AssemblySettings = field(
        default_factory=lambda: AssemblySettings(series_quiet_period_s=5, study_quiet_period_s=10)
    )
    rules: tuple[Rule, ...] = FORECAST_CT
    pacs: Pacs | None = None
    jobs: JobSettings = field(default_factory=JobSettings)

    def __post_init__(self) -> None:
        self.database: sa.Engine = open_database(self.data_dir)
        spool = Spool(self.data_dir, minimum_free_bytes=0)
        spool.incoming.mkdir(parents=True, exist_ok=True)
        self.index = Index(self.database, spool, self.clock)
        self.ledger = Ledger(self.database, self.clock)
        self.engine = SqliteEngine(self.database, self.jobs, self.clock, "node")
        self.restart()

    def restart(self) -> None:
        """Make a new assembler, which knows only what the database knows."""
        self.assembler = Assembler(
            database=self.database,
            ledger=self.ledger,
            engine=self.engine,
            router=Router(self.rules, [PACS]),
            settings=self.assembly,
            data_dir=self.data_dir,
            clock=self.clock,
            pacs=self.pacs,
        )

    def receive(self, data_sets: Iterable[Dataset], sender: str = "PACS") -> list[Outcome]:
        """Take objects as the listener does."""
        objects = (received_whole(encode(ds), EXPLICIT_LITTLE_ENDIAN, sender) for ds in data_sets)
        return [self.index.accept(received) for received in objects]

    def revisions(self) -> tuple[RevisionRow, ...]:
        return self.ledger.revisions()

    def states(self) -> list[str]:
        return [str(r.state) for r in self.revisions()]
