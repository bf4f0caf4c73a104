"""``hepatocast evaluate --predictions`` from the command line."""

from __future__ import annotations

import json

import pytest

from dicom_node.cli.main import DONE, FAILED, WRONG_USAGE, invoke
from inference.evaluation.predictions.folder import write_predictions
from tests.builders.predictions import four_arms, truth


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    known = truth(100)
    out = tmp_path_factory.mktemp("predictions")
    write_predictions(out, known.patients, four_arms(known)[:1])
    return out


def test_predictions_are_measured(folder, tmp_path, capsys):
    out = tmp_path / "report"
    command = ["evaluate", "--predictions", str(folder), "--draws", "20", "--subgroup", "sex"]
    assert invoke([*command, "--out", str(out)]) == DONE
    said = capsys.readouterr().out
    assert "Overall survival, test, 35 patients" in said
    assert "Clinical Cox: C 0." in said
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["plan"]["draws"] == 20
    columns = {g["column"] for g in metrics["sets"][0]["end_points"]["os"]["models"][0]["subgroups"]}
    assert columns == {"centre", "regimen", "sex"}
    assert (out / "report.html").is_file()
    assert (out / "report.pdf").is_file()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ([], WRONG_USAGE, "folder of predictions, a model"),
        (["--predictions", "x", "--model", "segmenter"], WRONG_USAGE, "folder of predictions, a model"),
        (["--predictions", "absent"], FAILED, "there is no folder absent"),
    ],
)
def test_wrong_usage_is_told(options, code, words, tmp_path, capsys):
    assert invoke(["evaluate", *options, "--out", str(tmp_path)]) == code
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_an_unknown_subgroup_is_refused(folder, tmp_path, capsys):
    command = ["evaluate", "--predictions", str(folder), "--subgroup", "shoe", "--out", str(tmp_path / "out")]
    assert invoke(command) == WRONG_USAGE
    assert "no column shoe" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
