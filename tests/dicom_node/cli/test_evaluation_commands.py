"""``hepatocast evaluate`` and ``hepatocast reader-study`` from the command line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from dicom_node.cli.main import DONE, FAILED, WRONG_USAGE, invoke
from tests.builders.small_cohorts import small_cohort


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small_cohort(tmp_path_factory.mktemp("cohort"), patients=15, seed=2).folder


def test_a_reading_set_goes_out_and_comes_back(cohort, tmp_path, capsys):
    out = tmp_path / "reading"
    command = ["reader-study", "export", "--cohort", str(cohort), "--out", str(out), "--items", "6"]
    assert invoke(command) == DONE
    key = tmp_path / "reading_key.csv"
    assert str(key) in capsys.readouterr().out
    sheets = sorted(out.glob("reader_*.csv"))
    rng = np.random.default_rng(0)
    for sheet in sheets:
        with sheet.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened))
        with sheet.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, rows[0])
            writer.writeheader()
            writer.writerows({**row, "score": int(rng.integers(1, 6))} for row in rows)
    figures = tmp_path / "figures"
    analysis = ["reader-study", "analyse", *map(str, sheets), "--key", str(key), "--out", str(figures)]
    assert invoke(analysis) == DONE
    assert "Fleiss" in capsys.readouterr().out
    found = json.loads((figures / "reader_study.json").read_text(encoding="utf-8"))
    assert (found["items"], found["virtual_items"], len(found["readers"])) == (6, 3, 3)

    sheets[0].write_text("item,score\n", encoding="utf-8")
    assert invoke(analysis) == FAILED
    assert "is missing" in capsys.readouterr().err


def test_a_generator_is_evaluated_without_images(cohort, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "--model", "generator", "--bundle", "mechanistic", "--cohort", str(cohort)]
    assert invoke([*command, "--patients", "2", "--image-samples", "0", "--out", str(out)]) == DONE
    assert "against climatology" in capsys.readouterr().out
    report = json.loads((out / "generator.json").read_text(encoding="utf-8"))
    assert report["model"]["name"] == "mechanistic"
    assert report["reports"][0]["distances"] == []
    assert "mechanistic" in report["reports"][0]["table"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--model", "segmenter"], WRONG_USAGE, "--data"),
        (["--model", "segmenter", "--data", "."], WRONG_USAGE, "--bundle"),
        (["--model", "generator"], WRONG_USAGE, "--cohort"),
        (["--model", "generator", "--cohort", "absent"], FAILED, "absent is not a cohort"),
    ],
)
def test_wrong_usage_says_what_is_missing(options, code, words, tmp_path, capsys):
    assert invoke(["evaluate", *options, "--out", str(tmp_path)]) == code
    assert words in capsys.readouterr().err


def test_a_reading_set_needs_one_source(tmp_path, capsys):
    assert invoke(["reader-study", "export", "--out", str(tmp_path)]) == WRONG_USAGE
    assert "either --cohort or --studies" in capsys.readouterr().err


def test_a_bundle_that_is_no_generator_is_refused(cohort, tmp_path, capsys):
    command = ["evaluate", "--model", "generator", "--bundle", "cox_hcc_tace_seg", "--cohort", str(cohort)]
    options = ["--patients", "3", "--image-samples", "0", "--out", str(tmp_path)]
    assert invoke([*command, *options]) == FAILED
    assert "is no generator" in capsys.readouterr().err
