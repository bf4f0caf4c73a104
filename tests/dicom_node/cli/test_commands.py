"""The commands as people and programs call them: exit codes, one-line errors, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pytest
import yaml

from dicom_node import forecast
from dicom_node.cli.main import DONE, FAILED, REFUSED, WRONG_USAGE, invoke
from dicom_node.jobs.ledger import ResultRow
from inference.errors import ReviewNeeded
from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.stages.load import load
from inference.stages.selection import select
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node
from tests.builders.studies import write_study

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"
COMMANDS = ("demo", "serve", "worker", "run", "check", "rules", "jobs", "assess", "train")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--help"]) == DONE
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS)
    assert "Exit codes" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([command, "--help"]) == DONE
    assert len(capsys.readouterr().out.splitlines()) > 5


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["run"], ["run", "x", "--out", "y", "--at", "yesterday"], ["jobs", "show", "x"]],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(arguments) == WRONG_USAGE
    assert capsys.readouterr().err


def test_a_wrong_configuration_is_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("listener: {prot: 1}\n")
    assert invoke(["jobs", "list", "--config", str(config)]) == WRONG_USAGE
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "listener.prot" in line


def test_a_refused_study_is_3_with_the_reason_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study", phases=("portal_venous",), seg=None)
    images = sorted(study.rglob("*.dcm"))
    images[len(images) // 2].unlink()
    assert invoke(["run", str(study), "--out", str(tmp_path / "out"), "--json"]) == REFUSED
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert "1 slice is missing" in line
    assert captured.out == ""


def test_doubtful_outlines_are_3_with_the_reason_first_and_then_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "study")
    case = read_case(study)
    baseline = load(select(case))
    outlined = SegInStudy().segment(case, baseline)

    def doubting(*_: object) -> NoReturn:
        raise ReviewNeeded("the liver is in two pieces", baseline, outlined)

    monkeypatch.setattr(forecast, "forecast", doubting)
    assert invoke(["run", str(study), "--out", str(tmp_path / "out"), "--json"]) == REFUSED
    reason, what_to_do = capsys.readouterr().err.strip().splitlines()
    assert reason == "hepatocast: the liver is in two pieces"
    assert "--doubtful accept" in what_to_do
    assert list((tmp_path / "out" / "proposal").rglob("*.dcm"))


def test_an_unknown_regimen_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", str(tmp_path), "--out", str(tmp_path / "out"), "--regimen", "magic"]
    assert invoke(arguments) == WRONG_USAGE
    assert "known are" in capsys.readouterr().err


def test_first_slices_of_other_patients_are_refused(
    needs_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in sorted(needs_data("hcc_tace_seg/first_slices").iterdir()):
        folder = tmp_path / path.stem
        folder.mkdir()
        (folder / path.name).symlink_to(path)
        assert invoke(["run", str(folder), "--out", str(tmp_path / "out")]) == REFUSED
        assert "1 image; at least 10 are needed" in capsys.readouterr().err


# ------------------------------------------------------------------ rules explain


def test_rules_explain_says_rule_series_phases_and_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_study(tmp_path / "study")
    assert invoke(["rules", "explain", str(study), "--json"]) == DONE
    document = json.loads(capsys.readouterr().out)
    assert {c["phase"] for c in document["chosen"]} == {"arterial", "portal_venous"}
    assert all(c["evidence"] for c in document["chosen"])
    assert all(r["reason"] for r in document["rejected"])
    assert document["rules"][0]["result"] == "true"
    assert document["action"] == "hold"  # nobody it could go back to
    assert len(document["segmentations"]) == 1
    assert invoke(["rules", "explain", str(study)]) == DONE
    assert "portal_venous" in capsys.readouterr().out


def test_rules_explain_knows_stored_studies(
    tmp_path: Path, clock, capsys: pytest.CaptureFixture[str]
) -> None:
    node, config = _node(tmp_path, clock)
    assert invoke(["rules", "explain", STUDY, "--config", str(config), "--json"]) == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["facts"]["calling_ae"] == "PACS"
    assert document["send_to"] == ["pacs"]
    assert invoke(["rules", "explain", "1.2.3.4.5", "--config", str(config)]) == WRONG_USAGE


# ------------------------------------------------------------------ jobs


def _node(tmp_path: Path, clock) -> tuple[Node, Path]:
    node = Node(tmp_path / "data", clock)
    node.receive(ct_series(12, STUDY, SERIES, rows=16))
    node.assembler.step()
    clock.advance(11)
    node.assembler.step()
    config = tmp_path / "site.yaml"
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    config.write_text(yaml.safe_dump({"data_dir": str(node.data_dir), "peers": [peer]}))
    return node, config


def _json(arguments: list[str], config: Path, capsys: pytest.CaptureFixture[str]):
    assert invoke([*arguments, "--config", str(config), "--json"]) == DONE
    return json.loads(capsys.readouterr().out)


def test_jobs_list_and_show(tmp_path: Path, clock, capsys: pytest.CaptureFixture[str]) -> None:
    node, config = _node(tmp_path, clock)
    started = node.ledger.start(1)
    row = ResultRow("pacs", "report", "1.2", "2.25.9", STUDY, "2.25.8", "results/1/1/a.dcm", "0" * 64)
    node.ledger.accept_results(1, started.fence, [row])
    (listed,) = _json(["jobs", "list"], config, capsys)
    assert (listed["state"], listed["rule"], listed["objects"]) == ("DONE", "ct", {"pacs": {"READY": 1}})
    shown = _json(["jobs", "show", "1"], config, capsys)
    assert [h["state_after"] for h in shown["history"]] == [
        "RECEIVING",
        "COMPLETE",
        "QUEUED",
        "RUNNING",
        "DONE",
    ]
    assert shown["plan"]["send_to"] == ["pacs"]
    for arguments in (["jobs", "list"], ["jobs", "show", "1"], ["jobs", "watch", "--once"]):
        assert invoke([*arguments, "--config", str(config)]) == DONE
        text = capsys.readouterr().out
        assert "DONE" in text
        assert "Test^Patient" not in text


def test_jobs_cancel_and_retry(tmp_path: Path, clock, capsys: pytest.CaptureFixture[str]) -> None:
    node, config = _node(tmp_path, clock)
    assert invoke(["jobs", "cancel", "1", "--config", str(config)]) == DONE
    assert node.states() == ["CANCELLED"]
    assert node.engine.status() == ()
    assert invoke(["jobs", "retry", "1", "--config", str(config)]) == DONE
    node.assembler.step()
    node.assembler.step()
    assert node.states() == ["QUEUED"]
    assert len(node.engine.status()) == 1
    capsys.readouterr()
    assert invoke(["jobs", "retry", "1", "--config", str(config)]) == FAILED
    assert "QUEUED cannot be" in capsys.readouterr().err


def test_jobs_list_filters_by_state(tmp_path: Path, clock, capsys: pytest.CaptureFixture[str]) -> None:
    _, config = _node(tmp_path, clock)
    assert _json(["jobs", "list", "--state", "held"], config, capsys) == []
    assert len(_json(["jobs", "list", "--state", "QUEUED"], config, capsys)) == 1
    assert invoke(["jobs", "list", "--state", "gone", "--config", str(config)]) == WRONG_USAGE
