"""The commands ``jobs`` and ``rules explain``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dicom_node.cli import jobs, rules
from dicom_node.errors import ConfigurationError, IllegalTransition
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node

RUNNER = CliRunner()
STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"


@pytest.fixture
def node(tmp_path: Path, clock) -> Node:
    """A node with one queued study."""
    node = Node(tmp_path / "data", clock)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    node.assembler.step()
    clock.advance(11)
    node.assembler.step()
    return node


@pytest.fixture
def config(node: Node, tmp_path: Path) -> str:
    file = tmp_path / "site.yaml"
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    file.write_text(yaml.safe_dump({"data_dir": str(node.data_dir), "peers": [peer]}), encoding="utf-8")
    return str(file)


def _jobs(*arguments: str) -> str:
    result = RUNNER.invoke(jobs.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_as_json_and_by_state(config: str) -> None:
    (row,) = json.loads(_jobs("list", "--config", config, "--json"))
    assert (row["state"], row["study_instance_uid"], row["rule"]) == ("QUEUED", STUDY, "ct")
    assert _jobs("list", "--config", config, "--state", "held").strip() == "no studies"


def test_an_unknown_state_is_wrong_usage(config: str) -> None:
    result = RUNNER.invoke(jobs.app, ["list", "--config", config, "--state", "lost"])
    assert result.exit_code == 2


def test_show_has_the_history_and_no_patient(config: str) -> None:
    shown = json.loads(_jobs("show", "1", "--config", config, "--json"))
    assert [h["state_after"] for h in shown["history"]] == ["RECEIVING", "COMPLETE", "QUEUED"]
    assert shown["plan"]["send_to"] == ["pacs"]
    text = _jobs("show", "1", "--config", config)
    assert "QUEUED" in text
    assert "Test^Patient" not in text


def test_cancel_and_retry(config: str, node: Node) -> None:
    _jobs("cancel", "1", "--config", config)
    assert node.states() == ["CANCELLED"]
    assert node.engine.status() == ()
    _jobs("retry", "1", "--config", config)
    node.assembler.step()
    assert node.states() == ["QUEUED"]
    with pytest.raises(IllegalTransition):
        _jobs("retry", "1", "--config", config)


def test_a_revision_that_is_not_there(config: str) -> None:
    with pytest.raises(ConfigurationError, match="no revision 7"):
        _jobs("show", "7", "--config", config)


def test_watch_once(config: str) -> None:
    assert "QUEUED" in _jobs("watch", "--config", config, "--once")


def _explained(*arguments: str) -> dict:
    result = RUNNER.invoke(rules.app, ["explain", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_stored_study_is_explained_with_its_sender(config: str) -> None:
    document = _explained(STUDY, "--config", config)
    assert document["facts"]["calling_ae"] == "PACS"
    assert [r["result"] for r in document["rules"]] == ["false", "true"]
    assert (document["action"], document["rule"]) == ("ignore", "everything else")
    named = {s["series_instance_uid"] for s in (*document["chosen"], *document["rejected"])}
    assert named == {SERIES}
    assert "Test^Patient" not in json.dumps(document)


def test_a_folder_is_explained(config: str, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for ds in ct_series(12, STUDY, SERIES, rows=64):
        ds.save_as(folder / f"{ds.InstanceNumber}.dcm", enforce_file_format=True)
    document = _explained(str(folder), "--calling-ae", "PACS", "--config", config)
    assert (document["action"], document["send_to"]) == ("forecast", ["pacs"])
    assert all(r["reason"] for r in document["rejected"])


def test_what_is_neither_folder_nor_study(config: str) -> None:
    with pytest.raises(ConfigurationError, match="neither a folder nor a study"):
        _explained("1.2.3.404", "--config", config)
