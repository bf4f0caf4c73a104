"""What became of every study of a batch: as CSV for a program, as a page for people.

A study is named by its Study Instance UID; no names, no IDs, no accession numbers.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from dicom_node.batch.ledger import BatchLedger, BatchRow, BatchStudyRow
from dicom_node.batch.states import BatchStudy
from dicom_node.database import reading, revision

TEMPLATE = "report.html.j2"


@dataclass(frozen=True, slots=True)
class Line:
    """One study of a report. Times are ISO 8601 in UTC, or empty; `seconds` is from retrieval to end."""

    study_instance_uid: str
    state: str
    reason: str
    expected_by_rules: str
    revision: str
    revision_state: str
    attempts: int
    instances_in_archive: int
    instances_retrieved: int
    bytes_retrieved: int
    retrieval_began: str
    received: str
    ended: str
    seconds: str


COLUMNS = tuple(Line.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A report: what is counted, and a line for each study."""

    batch: BatchRow
    written_at: str
    counts: tuple[tuple[str, int], ...]
    reasons: tuple[tuple[str, str, int], ...]
    lines: tuple[Line, ...]


def report_of(ledger: BatchLedger, batch: BatchRow) -> BatchReport:
    """Return the report of a batch as it stands."""
    studies = ledger.studies(batch.id)
    revisions = _revisions(ledger, [s.revision_id for s in studies if s.revision_id is not None])
    lines = tuple(_line(s, *revisions.get(s.revision_id, ("", ""))) for s in studies)
    counts = Counter(s.state for s in studies)
    reasons = Counter((str(s.state), s.reason) for s in studies if s.reason)
    return BatchReport(
        batch=batch,
        written_at=_when(ledger.clock()),
        counts=tuple((str(state), counts[state]) for state in BatchStudy if counts[state]),
        reasons=tuple((state, why, n) for (state, why), n in reasons.most_common()),
        lines=lines,
    )


def _revisions(ledger: BatchLedger, ids: Sequence[int]) -> dict[int | None, tuple[str, str]]:
    """Return number and state of revisions, by id."""
    found: dict[int | None, tuple[str, str]] = {}
    columns = (revision.c.id, revision.c.number, revision.c.state)
    with reading(ledger.database) as connection:
        for start in range(0, len(ids), 500):
            chosen = revision.c.id.in_(ids[start : start + 500])
            for row in connection.execute(sa.select(*columns).where(chosen)):
                found[row.id] = (str(row.number), str(row.state))
    return found


def _line(study: BatchStudyRow, number: str, revision_state: str) -> Line:
    took = None
    if study.started_at is not None and study.ended_at is not None:
        took = study.ended_at - study.started_at
    return Line(
        study_instance_uid=study.study_instance_uid,
        state=str(study.state),
        reason=study.reason,
        expected_by_rules=study.forecast,
        revision=number,
        revision_state=revision_state,
        attempts=study.attempts,
        instances_in_archive=study.instances,
        instances_retrieved=study.fetched_instances,
        bytes_retrieved=study.fetched_bytes,
        retrieval_began=_when(study.started_at),
        received=_when(study.received_at),
        ended=_when(study.ended_at),
        seconds="" if took is None else f"{took:.0f}",
    )


def _when(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def to_csv(report: BatchReport) -> str:
    """Return the lines of a report as CSV with a header (RFC 4180)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows([getattr(line, column) for column in COLUMNS] for line in report.lines)
    return buffer.getvalue()


def to_html(report: BatchReport) -> str:
    """Return a report as one page without outside parts."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(report=report)
