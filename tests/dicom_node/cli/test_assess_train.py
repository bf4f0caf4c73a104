"""The commands ``assess`` and ``train``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli import assess, train
from inference.bundle_store import bundle_folder
from inference.errors import ClinicalError, ModelError

RUNNER = CliRunner()
SUMS = "baseline_mm,current_mm,nadir_mm,new_lesions\n100,60,,\n20,24,20,no\n50,0,,\n40,40,,yes\n"


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "sums.csv"
    path.write_text(SUMS, encoding="utf-8")
    return path


def test_response_as_text(sums: Path) -> None:
    result = RUNNER.invoke(assess.app, ["response", str(sums)])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[1] for line in lines[1:5]] == ["PR", "SD", "CR", "PD"]
    assert "2 of 4, 50.0 % (95 % limits 6.8 to 93.2)" in lines[5]


def test_response_as_json(sums: Path) -> None:
    result = RUNNER.invoke(assess.app, ["response", str(sums), "--criteria", "mrecist", "--json"])
    document = json.loads(result.stdout)
    assert document["criteria"] == "mrecist"
    assert [row["category"] for row in document["rows"]] == ["PR", "PD", "CR", "PD"]
    assert document["disease_control"]["successes"] == 2


def test_response_refuses_a_wrong_table(tmp_path: Path) -> None:
    path = tmp_path / "wrong.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    result = RUNNER.invoke(assess.app, ["response", str(path)])
    assert isinstance(result.exception, ClinicalError)


def test_train_writes_the_shipped_bundle(needs_data, tmp_path: Path) -> None:
    data = needs_data("hcc_tace_seg/clinical_Data.csv")
    result = RUNNER.invoke(train.app, ["cox-hcc-tace-seg", "--data", str(data), "--out", str(tmp_path / "b")])
    assert result.exit_code == 0
    assert "overall survival: cross-validated C 0.60" in result.stdout
    shipped = bundle_folder("cox_hcc_tace_seg")
    for path in sorted(shipped.iterdir()):
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes(), path.name


def test_train_refuses_absent_and_other_tables(tmp_path: Path) -> None:
    arguments = ["cox-hcc-tace-seg", "--data", str(tmp_path / "absent.csv"), "--out", str(tmp_path / "b")]
    assert RUNNER.invoke(train.app, arguments).exit_code == 2
    (tmp_path / "absent.csv").write_text("age\n1\n")
    assert isinstance(RUNNER.invoke(train.app, arguments).exception, ModelError)
    assert not (tmp_path / "b").exists()
