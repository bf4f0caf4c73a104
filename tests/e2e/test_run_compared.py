"""``hepatocast run`` with a learned comparison and second opinions: what the site reads of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset

from dicom_node.cli.main import DONE, invoke
from tests.builders.second_opinions import write_nomogram
from tests.builders.studies import Phantom, write_study

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PHANTOM = Phantom(shape=(24, 128, 128), spacing_mm=(5.0, 3.6, 3.6))
AT = "2026-01-31T12:00:00+00:00"
CLINICAL = ("study_instance_uid,age,albumin [g/L],afp [ng/mL],largest_tumour [mm]", "61,38,900,60")


def write_table(path: Path) -> None:
    """Write 400 simulated patients: HAIC doubles survival, whoever the patient is."""
    rng = np.random.default_rng(20260131)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["regimen_id", "os_months", "os_event", "age", "albumin"])
        for _ in range(400):
            age, albumin = rng.normal(60, 8), rng.normal(38, 4)
            haic = rng.random() < 0.5
            median = 12.0 * (2.0 if haic else 1.0) * np.exp(0.03 * (albumin - 38) - 0.01 * (age - 60))
            months = median * rng.weibull(1.5) / np.log(2.0) ** (1.0 / 1.5)
            seen = rng.uniform(24, 60)
            row = ["haic" if haic else "tace", f"{min(months, seen):.3f}", int(months <= seen)]
            writer.writerow([*row, f"{age:.1f}", f"{albumin:.1f}"])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    study = write_study(folder / "study", phantom=PHANTOM)
    first = pydicom.dcmread(next(p for p in sorted(study.rglob("*")) if p.is_file()), stop_before_pixels=True)
    titles, values = CLINICAL
    rows = f"{titles}\n{first.StudyInstanceUID},{values}\n"
    (folder / "clinical.csv").write_text(rows, encoding="utf-8")
    write_table(folder / "table.csv")
    learned = folder / "learned"
    options = ["--covariate", "age", "--covariate", "albumin", "--trained-on", "simulated: a table"]
    assert invoke(["comparison", "learn", str(folder / "table.csv"), "--out", str(learned), *options]) == DONE
    settings = {
        "data_dir": str(folder / "node"),
        "models": {"second_opinions": [str(write_nomogram(folder / "nomogram")), str(folder / "absent")]},
    }
    config = folder / "site.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert invoke(["models", "install", str(learned), "--config", str(config)]) == DONE
    assert invoke(["models", "activate", "learned", "--config", str(config)]) == DONE
    arguments = ["run", str(study), "--out", str(folder / "out"), "--config", str(config), "--at", AT]
    asked = ["--clinical", str(folder / "clinical.csv"), "--regimen", "tace", "--regimen", "haic"]
    assert invoke([*arguments, *asked, "--month", "3", "--json"]) == DONE
    return folder / "out"


@pytest.fixture(scope="module")
def document(out: Path) -> dict:
    return json.loads((out / "result.json").read_text(encoding="utf-8"))


def test_the_comparison_stands_in_result_json(document: dict) -> None:
    comparison = document["comparison"]
    assert comparison["recommended"] == "haic"
    assert comparison["against"] == "tace"
    assert comparison["benefit_months"] == pytest.approx(12.0, abs=5.0)
    assert comparison["confidence"] > 0.8
    assert comparison["demonstration"] is True
    assert {(p["id"], p["against"]) for p in comparison["pairs"]} == {("tace", "haic"), ("haic", "tace")}
    assert document["bundles"]["comparison"]["trained_on"] == "simulated: a table"


def test_second_opinions_stand_in_result_json(document: dict) -> None:
    nomogram, absent = document["second_opinions"]
    values = {v["name"]: v["value"] for v in nomogram["output"]}
    assert values["points for AFP 400 ng/ml or more"] == pytest.approx(100.0)
    assert absent["output"] == {"assessed": False, "reason": "ModelFailed: There is no model bundle absent."}
    assert document["bundles"]["second_opinion 1 nomogram"]["sha256"] == nomogram["bundle"]["sha256"]
    assert "consult" in document["timings_s"]


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _items(child)


def test_both_stand_in_the_report_and_the_charts(out: Path) -> None:
    (path,) = (out / "report").rglob("*.dcm")
    written = {str(item.TextValue) for item in _items(pydicom.dcmread(path)) if "TextValue" in item}
    for words in ("Compared haic against tace", "Second opinion 1 nomogram", "Second opinion 2 absent"):
        assert words in written
    titles = {pydicom.dcmread(p).DerivationDescription for p in (out / "charts").rglob("*.dcm")}
    assert {"Comparison of regimens", "Virtual regressions side by side"} <= titles
