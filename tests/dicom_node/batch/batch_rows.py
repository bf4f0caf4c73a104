"""Plans written into a ledger without an archive."""

from __future__ import annotations

from pathlib import Path

from dicom_node.batch.ledger import BatchLedger, BatchRow, NewBatch, PlannedStudy
from dicom_node.batch.ways import FindBy, RetrieveBy
from dicom_node.clock import Clock
from dicom_node.database import open_database

LEASE_S = 10.0


def ledger_in(folder: Path, clock: Clock, url: str = "") -> BatchLedger:
    """Return the ledger of a new database: in a folder, or of PostgreSQL at an address."""
    return BatchLedger(open_database(folder, url), clock)


def plan(ledger: BatchLedger, *uids: str, name: str = "b", skip: str = "") -> BatchRow:
    """Write a batch of these studies."""
    studies = [PlannedStudy(uid, 3, "forecast by rule 'ct'", skip) for uid in uids]
    return ledger.plan(NewBatch(name, "archive", FindBy.C_FIND, RetrieveBy.C_GET), studies)
