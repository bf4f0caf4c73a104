"""What the commands print and write of a batch."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from dicom_node.batch.ledger import BatchLedger
from dicom_node.batch.report import COLUMNS, report_of, to_csv, to_html
from dicom_node.batch.states import BatchEvent
from dicom_node.cli.main import invoke
from dicom_node.clock import system_clock
from dicom_node.database import open_database
from tests.conftest import DrivenClock
from tests.dicom_node.batch.batch_rows import LEASE_S, ledger_in, plan


def worked(ledger: BatchLedger, clock: DrivenClock) -> None:
    """Write a batch of four studies: one done, one failed, one skipped by the plan, one still planned."""
    batch = plan(ledger, "1.2.1", "1.2.2", "1.2.4")
    assert ledger.acquire(batch.id, "me", LEASE_S)
    done, failed = ledger.claim(batch.id, "me"), ledger.claim(batch.id, "me")
    assert done is not None
    assert failed is not None
    clock.advance(30)
    done = ledger.change(
        done,
        "me",
        BatchEvent.ALL_RECEIVED,
        received_at=clock.now,
        fetched_instances=3,
        fetched_bytes=3000,
    )
    clock.advance(60)
    ledger.change(done, "me", BatchEvent.RESULTS_DELIVERED)
    ledger.change(failed, "me", BatchEvent.RETRIEVAL_FAILED, "1 of 3 instances <did not> [/come]")


def test_a_csv_has_a_line_for_each_study(tmp_path: Path, clock: DrivenClock) -> None:
    ledger = ledger_in(tmp_path, clock)
    worked(ledger, clock)
    text = to_csv(report_of(ledger, ledger.batch("b")))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    assert [(r["study_instance_uid"], r["state"], r["seconds"]) for r in rows] == [
        ("1.2.1", "DONE", "90"),
        ("1.2.2", "FAILED", "90"),
        ("1.2.4", "PLANNED", ""),
    ]
    assert (rows[0]["instances_retrieved"], rows[0]["bytes_retrieved"]) == ("3", "3000")
    assert rows[0]["ended"] == "2027-01-15T08:01:30+00:00"
    assert rows[1]["reason"] == "1 of 3 instances <did not> [/come]"


def test_a_page_counts_and_escapes(tmp_path: Path, clock: DrivenClock) -> None:
    ledger = ledger_in(tmp_path, clock)
    worked(ledger, clock)
    report = report_of(ledger, ledger.batch("b"))
    assert dict(report.counts) == {"DONE": 1, "FAILED": 1, "PLANNED": 1}
    page = to_html(report)
    assert "1 of 3 instances &lt;did not&gt; [/come]" in page
    assert "<did not>" not in page
    for uid in ("1.2.1", "1.2.2", "1.2.4"):
        assert f">{uid}<" in page
    assert "http" not in page  # nothing is loaded from elsewhere


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a configuration whose node has a worked batch."""
    config = tmp_path / "site.yaml"
    peer = {"name": "archive", "ae_title": "A", "host": "127.0.0.1", "port": 104}
    content = {"data_dir": str(tmp_path / "data"), "peers": [peer]}
    config.write_text(yaml.safe_dump(content))
    clock = DrivenClock(system_clock() - 1000)
    worked(BatchLedger(open_database(tmp_path / "data"), clock), clock)
    return config


def run(site: Path, *arguments: str) -> int:
    return invoke(["batch", *arguments, "--config", str(site)])


def test_status_as_json(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "status", "b", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["state"] == "not running"
    assert document["counts"] == {"DONE": 1, "FAILED": 1, "PLANNED": 1}
    assert (document["total"], document["ended"], document["left"]) == (3, 2, 1)
    assert document["ends_at"] is None
    assert document["problems"] == [
        {
            "study_instance_uid": "1.2.2",
            "state": "FAILED",
            "attempts": 1,
            "reason": "1 of 3 instances <did not> [/come]",
        }
    ]


def test_status_for_people_and_pausing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "pause", "b") == 0
    assert run(site, "status") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "b is paused" in shown
    assert "2 of 3 studies have ended (1 DONE, 1 FAILED, 1 PLANNED)" in shown
    assert "1 of 3 instances <did not> [/come]" in shown
    assert run(site, "resume", "b") == 0
    assert "start it with `hepatocast batch run b`" in capsys.readouterr().out


def test_a_report_is_written_by_the_name_of_its_file(site: Path, tmp_path: Path) -> None:
    assert run(site, "report", "b", "--out", str(tmp_path / "b.csv")) == 0
    assert run(site, "report", "b", "--out", str(tmp_path / "pages" / "b.html")) == 0
    assert (tmp_path / "b.csv").read_text().startswith(",".join(COLUMNS))
    assert (tmp_path / "pages" / "b.html").read_text().startswith("<!DOCTYPE html>")
    assert run(site, "report", "b", "--out", str(tmp_path / "b.txt")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "x"), "there is no batch 'x'; batches are: b"),
        (("plan", "n", "--peer", "nobody", "--modality", "CT"), "no peer is named 'nobody'"),
        (("plan", "n", "--peer", "archive", "--modality", "CT"), "c-find and c-get need query: true and"),
        (("plan", "n", "--peer", "archive"), "say which studies"),
        (("plan", "n", "--peer", "archive", "--from", "2019"), "'2019' is no date"),
        (("run", "b"), "retrieve: true at peer archive"),
    ],
)
def test_mistakes_are_answered_with_what_to_do(
    site: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert run(site, *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
