"""The audit trail's file: chained, taken up after a kill, and every kind of tampering shows."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.audit.chain import AuditFiles, Entry, Head
from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind
from dicom_node.audit.forecasts import Forecasts, csv_rows
from dicom_node.audit.tables import audit_position, forecast_lock
from dicom_node.audit.trail import AuditTrail, read_position
from dicom_node.audit.verification import locked_digests, verify_trail
from dicom_node.database import writing
from dicom_node.settings import NodeSettings
from dicom_node.storage.local import local_store
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import page_settings


def _entries(count: int, first: int = 1) -> list[Entry]:
    return [Entry("event", n, f"<AuditMessage n='{n}'/>") for n in range(first, first + count)]


@pytest.fixture
def files(tmp_path) -> AuditFiles:
    return AuditFiles(tmp_path / "audit")


# ------------------------------------------------------------------ the chain


def test_chain_that_nobody_touched_is_whole(files):
    records = files.append(_entries(3), Head())
    records += files.append(_entries(2, 4), Head(3, records[-1].digest))
    found = files.verify(Head(5, records[-1].digest))
    assert (found.records, found.problems, found.notes) == (5, (), ())
    assert found.head == Head(5, records[-1].digest)


def test_files_are_for_their_owner_only(files):
    files.append(_entries(1), Head())
    (path,) = files.files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def _tamper(files: AuditFiles, edit) -> None:
    (path,) = files.files()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(edit(lines)))


def _changed(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace("n='2'", "n='7'"), *lines[2:]]


def _rehashed(lines: list[str]) -> list[str]:
    """Change a record and give it a digest that fits: the next one does not follow it any more."""
    from dicom_node.audit.chain import record_digest

    content = json.loads(lines[1])
    content["message"] = "<AuditMessage/>"
    content["digest"] = record_digest(2, "event", 2, content["message"], content["previous"])
    return [lines[0], json.dumps(content) + "\n", *lines[2:]]


TAMPERINGS = {
    "changed": (_changed, "was changed"),
    "changed with its digest": (_rehashed, "does not follow"),
    "removed": (lambda lines: [lines[0], *lines[2:]], "records are missing"),
    "inserted": (lambda lines: [lines[0], lines[0], *lines[1:]], "records are missing"),
    "exchanged": (lambda lines: [lines[1], lines[0], *lines[2:]], "records are missing"),
    "first ones cut off": (lambda lines: lines[2:], "records are missing"),
    "end cut off": (lambda lines: lines[:-1], "the chain ends at record 4"),
    "garbage": (lambda lines: [lines[0], "garbage\n", *lines[1:]], "is no record"),
    "all gone": (lambda _lines: [], "the chain ends at record 0"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_shows(files, name):
    edit, problem = TAMPERINGS[name]
    head = files.append(_entries(5), Head())[-1]
    _tamper(files, edit)
    found = files.verify(Head(head.number, head.digest))
    assert any(problem in p for p in found.problems), found.problems


def test_a_chain_written_anew_is_not_the_noted_one(files):
    head = files.append(_entries(5), Head())[-1]
    (path,) = files.files()
    path.unlink()
    files.append([Entry("event", n, "<AuditMessage/>") for n in range(1, 6)], Head())
    assert files.verify().problems == ()  # by itself it is whole
    found = files.verify(Head(head.number, head.digest))
    assert any("is not the one that was noted" in p for p in found.problems)


def test_files_follow_each_other(tmp_path):
    files = AuditFiles(tmp_path, maximum_bytes=600)
    head = Head()
    for number in range(1, 8):
        record = files.append(_entries(1, number), head)[0]
        head = Head(record.number, record.digest)
    assert len(files.files()) > 2
    assert files.verify(head).problems == ()
    assert [r.number for r in files.after(3, 100)] == [4, 5, 6, 7]
    assert [r.number for r in files.after(3, 2)] == [4, 5]
    files.files()[1].unlink()
    assert files.verify(head).problems


def test_torn_line_of_a_power_cut_is_noted_and_the_chain_goes_on(files):
    record = files.append(_entries(2), Head())[-1]
    (path,) = files.files()
    with path.open("a") as stream:
        stream.write('{"n": 3, "source": "eve')
    last = files.append(_entries(1, 3), Head(record.number, record.digest))[-1]
    found = files.verify(Head(last.number, last.digest))
    assert found.problems == ()
    assert len(found.notes) == 1


# ------------------------------------------------------------------ the writer


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    return OperatedNode(Node(tmp_path / "data", clock), clock)


@pytest.fixture
def settings(operated) -> NodeSettings:
    return page_settings(operated.node.data_dir)


def _trail(operated: OperatedNode, settings: NodeSettings) -> AuditTrail:
    return AuditTrail(settings, operated.node.database, operated.clock, local_store(settings.data_dir))


def _verify(operated: OperatedNode, settings: NodeSettings, head: str | None = None):
    return verify_trail(settings, operated.node.database, operated.clock, head)


def test_each_event_is_written_once_whoever_writes(operated, settings):
    operated.delivered("a")
    first = _trail(operated, settings)
    assert first.step() == 5
    assert first.step() == 0
    assert _trail(operated, settings).step() == 0
    operated.refused("b")
    assert _trail(operated, settings).step() == 2  # received, and accessed
    assert _verify(operated, settings).problems == ()


@pytest.mark.parametrize("kept", ["none", "all but the last"])
def test_killed_between_file_and_note_nothing_is_lost_or_twice(operated, settings, kept):
    operated.delivered("a")
    trail = _trail(operated, settings)
    trail.step()
    whole = [r.message for r in trail.files.records()]
    with writing(operated.node.database) as connection:  # as if the note had not been written
        connection.execute(sa.delete(audit_position))
    if kept != "none":  # and the file only in part
        (path,) = trail.files.files()
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    again = _trail(operated, settings)
    assert again.step() == (0 if kept == "none" else 1)
    assert [r.message for r in again.files.records()] == whole
    operated.clock.advance(1)
    AuditEvents(operated.node.database, operated.clock).record(AuditEvent(EventKind.LOGIN, "anna"))
    assert again.step() == 1
    assert _verify(operated, settings).problems == ()


def test_writer_says_when_its_file_was_tampered_with(operated, settings):
    operated.delivered("a")
    trail = _trail(operated, settings)
    trail.step()
    (path,) = trail.files.files()
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-2]))
    again = _trail(operated, settings)
    again.step()
    kinds = [e.event.kind for e in AuditEvents(operated.node.database, operated.clock).after(0, 100)]
    assert EventKind.TRAIL_DAMAGED in kinds
    assert any("records are missing" in p for p in _verify(operated, settings).problems)


def test_verification_needs_the_noted_head(operated, settings):
    operated.delivered("a")
    trail = _trail(operated, settings)
    trail.step()
    head = read_position(operated.node.database).head
    assert _verify(operated, settings, f"{head.number}:{head.digest}").problems == ()
    assert _verify(operated, settings, f"{head.number}:{'0' * 64}").problems
    assert _verify(operated, settings, f"{head.number + 1}:{head.digest}").problems


# ------------------------------------------------------------------ forecasts


def test_forecast_is_locked_in_the_transaction_that_accepts_it(operated, settings):
    revision = operated.delivered("a")
    _trail(operated, settings).step()
    (lock,) = Forecasts(operated.node.database, operated.clock).all()
    trail = AuditFiles(settings.audit.files(settings.data_dir))
    assert locked_digests(trail.records()) == {(revision, 1): lock.digest}
    assert len(lock.objects) == 5
    assert [(s.regimen, s.p12, s.median) for s in lock.summary] == [
        ("tace", 0.71, 22.4),
        ("sorafenib", 0.58, 14.9),
        ("atezolizumab_bevacizumab", None, None),
    ]


@pytest.mark.parametrize("column", ["digest", "result_sha256", "objects", "gone"])
def test_changed_forecast_shows(operated, settings, column):
    operated.delivered("a")
    _trail(operated, settings).step()
    assert _verify(operated, settings).problems == ()
    with writing(operated.node.database) as connection:
        if column == "gone":
            connection.execute(sa.delete(forecast_lock))
        else:
            connection.execute(sa.update(forecast_lock).values({column: "{}"}))
    assert any("the forecast of revision 1" in p for p in _verify(operated, settings).problems)


def test_forecasts_are_exported_by_regimen(operated):
    operated.delivered("a")
    rows = csv_rows(Forecasts(operated.node.database, operated.clock).all())
    assert [(r["regimen"], r["p12"], r["recommended"]) for r in rows] == [
        ("tace", 0.71, "yes"),
        ("sorafenib", 0.58, ""),
        ("atezolizumab_bevacizumab", "", ""),
    ]
    assert rows[0]["forecast_at"].startswith("2027-01-15T08:")
    assert len({r["digest"] for r in rows}) == 1


def test_files_cannot_be_led_elsewhere(tmp_path):
    assert AuditFiles(Path(os.devnull) / "nowhere").files() == []
