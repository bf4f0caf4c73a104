"""Second opinions of SELECTION and its comparators on a phantom, by networks that learned nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from inference.bundle_store import BundleKind
from inference.errors import ModelError
from inference.models.catalogue import load_model
from inference.models.second_opinions.atom import Therapy
from inference.models.second_opinions.cohort_networks import Architecture
from inference.models.second_opinions.cohort_reader import CohortReader
from inference.results import AssessedPatient, NotAssessed, OpinionValue, Reason, SecondOpinion
from inference.settings import Regimen
from tests.builders.cohort_model_bundles import RECORD, write_cohort_models
from tests.builders.results import results

REGIMENS = tuple(
    Regimen(id=name, name=name, source="test") for name in ("tace", "haic_systemic", "untreated")
)


@cache
def patient(modality: str = "CT", phases: tuple[str, ...] = ("arterial", "portal_venous")) -> AssessedPatient:
    found = results(modality, phases)
    return AssessedPatient(found.baseline, found.segmentation, found.baseline_lesions, RECORD)


def told(opinion: SecondOpinion) -> dict[str, OpinionValue]:
    assert not isinstance(opinion.values, NotAssessed)
    return {v.name: v for v in opinion.values}


def test_selection_tells_each_regimen_of_its_cohorts_and_follows_the_flow(tmp_path) -> None:
    reader: CohortReader = load_model(write_cohort_models(tmp_path / "b"), BundleKind.SECOND_OPINION)
    first, second, atom = reader.opinions(patient(), REGIMENS)
    assert [(o.system, o.regimen_id) for o in (first, second, atom)] == [
        ("selection", "tace"),
        ("selection", "haic_systemic"),
        ("atom", None),
    ]
    values = told(first)
    score = values["objective response"].value
    assert isinstance(score, float)
    assert 0 < score < 1
    assert values["risk group"].value == ("low risk" if score >= 0.5 else "high risk")
    attended = values["clinical values with most attention"].value
    assert set(str(attended).split(", ")) == {
        "Age",
        "Alpha-fetoprotein",
        "Albumin",
        "Total bilirubin",
        "ALBI",
    }
    missing = values["clinical values not given"].value
    assert isinstance(missing, str)
    assert "Sex" in missing
    assert "Age" not in missing
    flow = told(atom)
    scores = {t: flow[f"score, {t.upper()}"].value for t in Therapy}
    alone = max((Therapy.TACE, Therapy.HAIC), key=lambda t: float(scores[t]))
    if float(scores[alone]) >= 0.5:
        assert flow["end of the flow"].value == alone.upper()
    assert "reconstruction" in atom.about


def test_picture_shows_attention_over_both_phases(tmp_path) -> None:
    reader = CohortReader.from_bundle(write_cohort_models(tmp_path / "b", therapies=(Therapy.TACE,)))
    picture = reader.opinions(patient(), REGIMENS[:1])[0].pictures[0]
    assert picture.rgb.shape == (384, 768, 3)
    assert picture.rgb.dtype == np.uint8
    coloured = np.ptp(picture.rgb.astype(int), axis=2) > 30
    assert coloured[:, :384].any()
    alone = reader.opinions(patient(phases=("portal_venous",)), REGIMENS[:1])[0].pictures[0]
    assert not alone.rgb[:, :384].any()
    assert alone.rgb[:, 384:].any()


@pytest.mark.parametrize("architecture", [Architecture.VIT, Architecture.RESNET_LOGISTIC])
def test_comparators_have_no_flow(tmp_path, architecture: Architecture) -> None:
    reader = CohortReader.from_bundle(write_cohort_models(tmp_path / "b", architecture))
    (opinion,) = reader.opinions(patient(), REGIMENS[:1])
    assert opinion.system == architecture
    assert bool(opinion.pictures) == (architecture is Architecture.VIT)
    assert ("clinical values not given" in told(opinion)) == (architecture is not Architecture.VIT)


def test_flow_is_refused_where_a_model_is_absent(tmp_path) -> None:
    reader = CohortReader.from_bundle(
        write_cohort_models(tmp_path / "b", therapies=(Therapy.TACE, Therapy.HAIC))
    )
    first, atom = reader.opinions(patient(), REGIMENS)
    assert first.values == reader.opinions(patient(), REGIMENS)[0].values, "the same study, the same opinion"
    assert isinstance(atom.values, NotAssessed)
    assert "tace_systemic" in atom.values.detail


def test_other_modality_and_other_regimens_are_refused(tmp_path) -> None:
    reader = CohortReader.from_bundle(write_cohort_models(tmp_path / "b"))
    for opinion in reader.opinions(patient("MR", ("t1_arterial", "t1_portal_venous")), REGIMENS):
        assert isinstance(opinion.values, NotAssessed)
        assert opinion.values.reason is Reason.OUT_OF_DISTRIBUTION
    other = reader.opinions(patient(), REGIMENS[2:])[0]
    assert isinstance(other.values, NotAssessed)
    assert other.values.reason is Reason.REGIMEN_NOT_COVERED


def test_damaged_weights_are_refused(tmp_path) -> None:
    folder = write_cohort_models(tmp_path / "b")
    (folder / "tace.safetensors").write_bytes((folder / "haic.safetensors").read_bytes())
    with pytest.raises(ModelError, match="damaged"):
        CohortReader.from_bundle(folder)
