"""The commands web, audit and decisions, and the checks of the page and of alerts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from dicom_node.audit.events import AuditEvents, EventKind
from dicom_node.audit.trail import AuditTrail
from dicom_node.cli.main import invoke
from dicom_node.clock import system_clock
from dicom_node.settings import load_settings
from dicom_node.storage.local import local_store
from dicom_node.web.users import Role, Users
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode


@pytest.fixture
def config(tmp_path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"data_dir": str(tmp_path / "data")}))
    return file


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    return OperatedNode(Node(tmp_path / "data", clock), clock)


def _run(capsys, config: Path, *arguments: str) -> tuple[int, str, str]:
    code = invoke([*arguments, "--config", str(config)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def _write_trail(operated: OperatedNode, config: Path) -> None:
    settings = load_settings([config])
    trail = AuditTrail(settings, operated.node.database, operated.clock, local_store(settings.data_dir))
    trail.step()


def test_users_are_added_listed_and_removed_and_it_is_told(capsys, monkeypatch, config, tmp_path, operated):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = _run(capsys, config, "web", "add-user", "anna", "--password-stdin")
    assert (code, "12 to 256" in err) == (2, True)
    password = tmp_path / "password"
    password.write_text("a long enough password\n")
    with password.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        arguments = ("web", "add-user", "anna", "--role", "operator", "--password-stdin")
        assert _run(capsys, config, *arguments)[:2] == (0, "added anna, role operator\n")
    assert _run(capsys, config, "web", "list-users")[1] == "anna\toperator\n"
    user = Users(tmp_path / "data" / "users.json").all()["anna"]
    assert user.role is Role.OPERATOR
    assert _run(capsys, config, "web", "remove-user", "anna")[0] == 0
    assert _run(capsys, config, "web", "remove-user", "anna")[0] == 2
    told = [e.event for e in AuditEvents(operated.node.database, system_clock).after(0, 10)]
    assert [e.detail["change"] for e in told if e.kind is EventKind.USERS_CHANGED] == [
        "added anna, role operator",
        "removed anna",
    ]


def test_decisions_are_added_and_listed(capsys, config, operated):
    revision = str(operated.delivered("a"))
    code, out, _ = _run(
        capsys, config, "decisions", "add", revision, "override",
        "--regimen", "sorafenib", "--reason", "portal vein thrombosis", "--user", "dr.lee",
    )  # fmt: skip
    assert code == 0
    assert "decision 1 on forecast" in out
    code, out, _ = _run(capsys, config, "decisions", "list", "--json")
    (made,) = json.loads(out)
    assert (made["user"], made["regimen"], made["recommended"]) == ("dr.lee", "sorafenib", "tace")
    assert "override: sorafenib (recommended: tace)" in _run(capsys, config, "decisions", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("99", "agree", "--regimen", "tace", "--reason", "as forecast"), "has no forecast"),
        (("1", "agree", "--regimen", "unknown", "--reason", "as forecast"), "is not in the forecast"),
        (("1", "agree", "--regimen", "tace", "--reason", " "), "a reason has"),
    ],
)
def test_decision_that_makes_no_sense_is_refused(capsys, config, operated, arguments, words):
    operated.delivered("a")
    code, _, err = _run(capsys, config, "decisions", "add", *arguments)
    assert code == 2
    assert words in err
    assert _run(capsys, config, "decisions", "list")[1] == "no decision is recorded\n"


def test_audit_verify_tells_tampering(capsys, config, operated):
    operated.delivered("a")
    _write_trail(operated, config)
    code, out, _ = _run(capsys, config, "audit", "verify")
    assert code == 0
    head = out.split()[-1]
    assert _run(capsys, config, "audit", "verify", "--head", head)[0] == 0
    (path,) = (operated.node.data_dir / "audit").glob("audit-*.jsonl")
    path.write_text(path.read_text().replace("PACS", "ELSE", 1))
    code, _, err = _run(capsys, config, "audit", "verify", "--head", head)
    assert code == 1
    assert "record 1 was changed" in err
    assert _run(capsys, config, "audit", "verify", "--head", "nonsense")[0] == 2


def test_reading_the_trail_is_in_the_trail(capsys, config, operated):
    operated.delivered("a")
    _write_trail(operated, config)
    code, out, _ = _run(capsys, config, "audit", "show", "--last", "2")
    assert code == 0
    assert out.count("<AuditMessage>") == 2
    told = [e.event.kind for e in AuditEvents(operated.node.database, system_clock).after(0, 100)]
    assert told[-1] is EventKind.TRAIL_USED


def test_forecasts_are_exported(capsys, config, operated, tmp_path):
    operated.delivered("a")
    target = tmp_path / "forecasts.csv"
    assert _run(capsys, config, "audit", "forecasts", "--out", str(target))[0] == 0
    with target.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["regimen"], r["p12"], r["median"]) for r in rows] == [
        ("tace", "0.71", "22.4"),
        ("sorafenib", "0.58", "14.9"),
        ("atezolizumab_bevacizumab", "", ""),
    ]
    assert _run(capsys, config, "audit", "forecasts")[1].startswith("study_instance_uid,revision,regimen")


def test_page_and_alerts_are_checked(tmp_path):
    from dicom_node.observation.selftest import check_alerts, check_page

    settings = load_settings().model_copy(update={"data_dir": tmp_path})
    (page,) = check_page(settings)
    assert page.passed
    assert "no user yet" in page.detail
    open_to_all = settings.model_copy(update={"web": settings.web.model_copy(update={"host": "0.0.0.0"})})
    (page,) = check_page(open_to_all)
    assert not page.passed
    (alerts,) = check_alerts(settings)
    assert not alerts.passed
    assert "alerts.mail" in alerts.detail


def test_what_is_done_on_the_command_line_has_a_name_too(capsys, config, operated):
    refused, review = operated.refused("a"), operated.in_review("b")
    assert _run(capsys, config, "jobs", "retry", str(refused))[0] == 0
    assert _run(capsys, config, "jobs", "reject", str(review), "--reason", "the vein is outlined")[0] == 0
    told = [e.event for e in AuditEvents(operated.node.database, system_clock).after(0, 10)]
    assert [(e.detail["action"], e.detail["revision"], e.detail["reason"]) for e in told] == [
        ("retry", refused, ""),
        ("reject", review, "the vein is outlined"),
    ]
    assert all(e.user for e in told)
