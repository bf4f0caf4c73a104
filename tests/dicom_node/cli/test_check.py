"""``hepatocast check`` against a real PACS: all well, and each thing that can be wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom import dcmread

from dicom_node import selftest
from dicom_node.cli.main import DONE, FAILED, WRONG_USAGE, invoke
from dicom_node.network.scp import listening
from dicom_node.selftest import test_object as make_test_object
from dicom_node.settings import load_settings
from inference.provenance import is_made_here
from tests.builders.judges import dciodvfy
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, orthanc_peer
from tests.conftest import DrivenClock


@contextmanager
def site(
    program: str, folder: Path, peer: dict[str, Any] | None = None, nodes: bool = True
) -> Iterator[tuple[Orthanc, Path]]:
    """Run an Orthanc and write the configuration of a node beside it."""
    port = free_port()
    with Orthanc(program, {OURS: ("127.0.0.1", port)} if nodes else {}) as orthanc:
        content = {
            "data_dir": str(folder / "data"),
            "listener": {"ae_title": OURS, "port": port, "minimum_free_bytes": 0},
            "peers": [{**orthanc_peer(orthanc, query=True, orthanc_url=orthanc.url), **(peer or {})}],
        }
        config = folder / "site.yaml"
        config.write_text(yaml.safe_dump(content))
        yield orthanc, config


def checked(config: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and what was found, by name."""
    code = invoke(["check", "--config", str(config), "--json", *more])
    found = json.loads(capsys.readouterr().out)
    return code, {item["name"]: item for item in found}


def test_all_is_well(tmp_path: Path, needs_judge, capsys: pytest.CaptureFixture[str]) -> None:
    with site(needs_judge("Orthanc"), tmp_path) as (orthanc, config):
        code, found = checked(config, capsys)
        assert {name: item["detail"] for name, item in found.items() if not item["passed"]} == {}
        assert code == DONE
        assert set(found) >= {
            "data folder",
            "room",
            "C-ECHO",
            "C-FIND",
            "Orthanc",
            "store, commit, read back",
        }
        (patient,) = orthanc.find("Patient", PatientID="HEPATOCAST-CHECK")
        assert orthanc.get(f"/patients/{patient}")["MainDicomTags"]["PatientName"] == "HEPATOCAST^CHECK"


def test_a_person_reads_a_table(tmp_path: Path, needs_judge, capsys: pytest.CaptureFixture[str]) -> None:
    with site(needs_judge("Orthanc"), tmp_path) as (_, config):
        assert invoke(["check", "--config", str(config), "--pacs", "pacs"]) == DONE
    text = capsys.readouterr().out
    assert "✓" in text
    assert "✗" not in text


def test_beside_a_running_node(tmp_path: Path, needs_judge, capsys: pytest.CaptureFixture[str]) -> None:
    """The node's own listener has the port then."""
    with site(needs_judge("Orthanc"), tmp_path) as (_, config), listening(load_settings([config])):
        code, found = checked(config, capsys)
    assert code == DONE
    assert "came back equal" in found["store, commit, read back"]["detail"]


def test_a_node_that_the_pacs_does_not_know(
    tmp_path: Path,
    needs_judge,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selftest, "STEPS", 10)
    with site(needs_judge("Orthanc"), tmp_path, nodes=False) as (_, config):
        code, found = checked(config, capsys)
    assert code == FAILED
    assert "add it there" in found["Orthanc"]["detail"]
    assert not found["store, commit, read back"]["passed"]


def test_a_pacs_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    config = tmp_path / "site.yaml"
    listener = {"minimum_free_bytes": 0}
    config.write_text(
        yaml.safe_dump({"data_dir": str(tmp_path / "data"), "peers": [peer], "listener": listener})
    )
    code, found = checked(config, capsys)
    assert code == FAILED
    assert "cannot be reached" in found["C-ECHO"]["detail"]
    assert found["data folder"]["passed"]


def test_an_unknown_peer_is_a_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "--pacs", "nobody"]) == WRONG_USAGE
    assert "nobody" in capsys.readouterr().err


def test_the_test_object_is_valid_and_never_input(tmp_path: Path, needs_judge, clock: DrivenClock) -> None:
    ds = make_test_object(clock)
    path = tmp_path / "check.dcm"
    ds.save_as(path, enforce_file_format=True)
    assert is_made_here(dcmread(path))
    assert dciodvfy(needs_judge("dciodvfy"), path) == []
    done = subprocess.run([needs_judge("dcmdump"), str(path)], capture_output=True, check=False)
    assert done.returncode == 0
