"""``hepatocast train`` delicaite and selection on 40 patients: bundles, predictions, and second opinions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.cli.main import invoke
from inference.bundle_store import BundleKind, describe
from inference.case import ClinicalRecord, ClinicalValue
from inference.evaluation.predictions.folder import read_predictions
from inference.evaluation.seed_systems import write_system_predictions
from inference.models.catalogue import load_model
from inference.results import AssessedPatient, NotAssessed, SecondOpinion
from inference.settings import Regimen
from inference.training.cohort import Cohort
from reporting import report
from tests.builders.results import context, results
from tests.builders.treated_cohort import GIVEN, write_treated

REGIMENS = tuple(Regimen(id=name, name=name, source="test") for name in GIVEN)


def quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_treated(tmp_path_factory.mktemp("cohort"), patients=40, size=32)


def asked(bundle: Path) -> tuple[SecondOpinion, ...]:
    study = results()
    record = ClinicalRecord({"afp": ClinicalValue("afp", 900.0, "ng/mL")})
    patient = AssessedPatient(study.baseline, study.segmentation, study.baseline_lesions, record)
    found: tuple[SecondOpinion, ...] = load_model(bundle, BundleKind.SECOND_OPINION).opinions(
        patient, REGIMENS
    )
    return found


def report_of(opinions: tuple[SecondOpinion, ...]) -> str:
    """Return the words of the structured report of a study with second opinions."""
    (document,) = report.build(replace(results(), second_opinions=opinions), context())
    words = (e for e in document.iterall() if e.keyword in ("TextValue", "CodeMeaning"))
    return "\n".join(str(element.value) for element in words)


@pytest.mark.parametrize("name", ["delicaite", "selection", "vit", "resnet-logistic"])
def test_folder_that_is_no_cohort_is_refused(name: str, tmp_path, capsys) -> None:
    assert invoke(["train", name, str(tmp_path), "--out", str(tmp_path / "bundle"), "--quiet"]) != 0
    assert "cohort" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_selection(cohort: Cohort, tmp_path: Path, capsys) -> None:
    bundle = tmp_path / "bundle"
    options = ["--out", str(bundle), "--steps", "4", "--landmark", "1", "--quiet"]
    assert invoke(["train", "selection", str(cohort.folder), *options]) == 0
    assert str(bundle) in capsys.readouterr().out
    told = describe(bundle)
    assert set(told.metrics["validation"]) == set(GIVEN)
    assert set(told.metrics["atom"]) == set(GIVEN)
    for name, size in (("selection", 2), ("selection-survival", 4)):
        folder = tmp_path / name
        write_system_predictions(name, bundle, cohort, folder, quiet)
        found = read_predictions(folder)
        assert {m.entry.name for m in found.models} == {
            "selection",
            "vit",
            "resnet_logistic",
            "clinical_logistic",
        }
        assert len(set(found.patients.regimen)) == size
    opinions = asked(bundle)
    assert [o.system for o in opinions] == ["selection"] * 4 + ["atom"]
    assert not any(isinstance(o.values, NotAssessed) for o in opinions)
    assert all(o.pictures for o in opinions[:4])
    text = report_of(opinions)
    assert "atom: end of the flow" in text
    assert "median of the training patients" in text
    for other in ("vit", "resnet_logistic", "clinical_logistic"):
        assert [o.system for o in asked(bundle / "comparators" / other)] == [other] * 4


@pytest.mark.slow
def test_delicaite(cohort: Cohort, tmp_path: Path, capsys) -> None:
    bundle = tmp_path / "bundle"
    options = ["--out", str(bundle), "--steps", "40", "--slice-steps", "2", "--quiet"]
    assert invoke(["train", "delicaite", str(cohort.folder), *options]) == 0
    assert str(bundle) in capsys.readouterr().out
    told = describe(bundle)
    assert told.metadata["regimens"] == ["tace", "haic"]
    assert 0 <= told.metrics["validation"]["alter_share"] <= 1
    folder = tmp_path / "predictions"
    write_system_predictions("delicaite", bundle, cohort, folder, quiet)
    (model,) = read_predictions(folder).models
    assert np.isfinite(model.survival["pfs"].risk).any()
    tace, haic = asked(bundle)
    values = [
        {v.name: v.value for v in o.values if not isinstance(o.values, NotAssessed)} for o in (tace, haic)
    ]
    ratio = "log odds ratio of progression, TACE over HAIC"
    assert values[0][ratio] == values[1][ratio]
    probability = [float(v["progressive disease within 6 months"]) for v in values]
    logits = [np.log(p / (1 - p)) for p in probability]
    assert logits[0] - logits[1] == pytest.approx(values[0][ratio], abs=1e-6)
    groups = {v["group"] for v in values}
    assert groups == {"Maintain", "Alter"} or all(str(g).startswith("not told") for g in groups)
    assert ratio in report_of((tace, haic))
