"""Second readers: every one is asked, and one that fails never costs the study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.case import ClinicalRecord
from inference.errors import ModelError
from inference.models.second_opinions.loading import load_readers
from inference.results import (
    AssessedPatient,
    BundleInfo,
    NotAssessed,
    OpinionValue,
    Reason,
    SecondOpinion,
)
from inference.settings import Regimen
from inference.stages.consult import consult
from tests.builders.model_bundles import variant
from tests.builders.results import results

REGIMENS = (Regimen(id="tace", name="TACE", source="test"), Regimen(id="haic", name="HAIC", source="test"))
SECRET = "DOE^JANE"


@dataclass(frozen=True)
class Reader:
    """Says one thing for each regimen, or fails."""

    name: str
    error: Exception | None = None

    @property
    def info(self) -> BundleInfo:
        return BundleInfo(self.name, "1", "a" * 64, "simulated")

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        if self.error is not None:
            raise self.error
        values = (OpinionValue("age", float(patient.clinical.values["age"].value)),)
        return tuple(SecondOpinion(self.name, self.info, "About.", r.id, values) for r in regimens)


@pytest.fixture(scope="module")
def patient() -> AssessedPatient:
    found = results()
    return AssessedPatient(found.baseline, found.segmentation, found.baseline_lesions, found.clinical.used)


def test_every_reader_is_asked_in_order(patient: AssessedPatient) -> None:
    found = consult(patient, REGIMENS, (Reader("first"), Reader("second")))
    assert [(o.system, o.regimen_id) for o in found] == [
        ("first", "tace"), ("first", "haic"), ("second", "tace"), ("second", "haic"),
    ]  # fmt: skip
    assert not isinstance(found[0].values, NotAssessed)
    assert found[0].values[0].value == 63.0
    assert consult(patient, REGIMENS, ()) == ()


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ModelError("the liver lies outside"), "The system could not be asked: the liver lies outside."),
        (ValueError(SECRET), "The system failed (ValueError)."),
        (KeyError(SECRET), "The system failed (KeyError)."),
        (RuntimeError(SECRET), "The system failed (RuntimeError)."),
    ],
    ids=["refuses", "value", "key", "runtime"],
)
def test_a_reader_that_fails_is_one_refusal_and_the_others_stay(
    patient: AssessedPatient, error: Exception, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    failed, *others = consult(patient, REGIMENS, (Reader("broken", error), Reader("sound")))
    assert failed.values == NotAssessed(Reason.MODEL_FAILED, detail)
    assert failed.system == "broken"
    assert [o.system for o in others] == ["sound", "sound"]
    assert "broken" in caplog.text
    assert SECRET not in caplog.text


def test_a_reader_without_what_it_needs_does_not_stop_the_others(patient: AssessedPatient) -> None:
    unknown = AssessedPatient(patient.baseline, patient.segmentation, patient.lesions, ClinicalRecord())
    (only,) = consult(unknown, REGIMENS, (Reader("first"),))
    assert isinstance(only.values, NotAssessed)


def test_a_bundle_that_cannot_be_read_is_a_refusal_with_its_reason(
    patient: AssessedPatient, tmp_path: Path
) -> None:
    other_kind = variant(tmp_path / "generator")
    absent, wrong = consult(patient, REGIMENS, load_readers((tmp_path / "absent", other_kind)))
    assert (absent.system, wrong.system) == ("absent", "generator")
    assert absent.values == NotAssessed(Reason.MODEL_FAILED, "There is no model bundle absent.")
    assert isinstance(wrong.values, NotAssessed)
    assert "is a generator, not a second_opinion" in wrong.values.detail
