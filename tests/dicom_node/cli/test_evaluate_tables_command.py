"""``hepatocast evaluate --table`` as an engineer uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom_node.cli.main import invoke
from tests.builders.survival_rows import planted_table


def _file(folder: Path, patients: int) -> Path:
    covariates, time, event, _ = planted_table(patients, seed=2)
    path = folder / "patients.csv"
    covariates.assign(key=range(patients), months=time, died=event.astype(int)).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_a_site_table_is_compared_with_other_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(_file(tmp_path, 120))
    columns = ["--time", "months", "--event", "died", "--leave-out", "key", "--repeats", "1"]
    against = ["--against", "cox-ridge", "--against", "no-covariates"]

    assert invoke(["evaluate", "--table", table, *columns, *against, "--out", str(tmp_path / "out")]) == 0

    assert "protocol: Harrell's C" in capsys.readouterr().out
    stored = json.loads((tmp_path / "out" / "tables.json").read_text(encoding="utf-8"))["patients"]
    assert set(stored["folds"]) == {"protocol", "cox-ridge", "no-covariates"}
    assert stored["means"]["no-covariates"]["c"] == 0.5
    assert "## patients" in (tmp_path / "out" / "tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "titanic"], "titanic is none of"),
        (["--table", "TABLE"], "name the columns of time and event"),
        (
            ["--table", "TABLE", "--time", "months", "--event", "died", "--against", "oracle"],
            "oracle is none",
        ),
    ],
)
def test_wrong_requests_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    table = str(_file(tmp_path, 12))
    given = [table if argument == "TABLE" else argument for argument in arguments]

    assert invoke(["evaluate", *given, "--out", str(tmp_path / "out")]) == 2

    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_an_absent_column_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = str(_file(tmp_path, 12))
    columns = ["--time", "months", "--event", "dead"]

    assert invoke(["evaluate", "--table", table, *columns, "--out", str(tmp_path / "out")]) == 1

    assert "no column 'dead'" in capsys.readouterr().err
