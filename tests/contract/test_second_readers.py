"""What every second reader must do; a new one is added to `READERS`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference.bundle_store import BundleKind
from inference.case import ClinicalRecord
from inference.models.catalogue import load_model
from inference.models.protocols import SecondReader
from inference.models.second_opinions.cohort_networks import Architecture
from inference.results import AssessedPatient, NotAssessed, OpinionValue, SecondOpinion
from inference.settings import Regimen
from tests.builders.cohort_model_bundles import write_cohort_models, write_delicaite
from tests.builders.results import results
from tests.builders.second_opinions import (
    write_dlop_combin,
    write_nomogram,
    write_radiomics_cox,
    write_resnet50_mlp,
)

READERS: dict[str, Callable[[Path], Path]] = {
    "nomogram": write_nomogram,
    "delicaite": write_delicaite,
    "selection": write_cohort_models,
    "vit": lambda folder: write_cohort_models(folder, Architecture.VIT),
    "resnet_logistic": lambda folder: write_cohort_models(folder, Architecture.RESNET_LOGISTIC),
    "resnet50_mlp": write_resnet50_mlp,
    "dlop_combin": write_dlop_combin,
    "radiomics_cox": lambda folder: write_radiomics_cox(folder, "liver_shape_volume", "no_such_feature"),
}
"""Writes a small bundle of each into a folder."""
REGIMENS = tuple(Regimen(id=i, name=i.upper(), source="test") for i in ("tace", "haic", "sirt"))


@pytest.fixture(scope="module", params=sorted(READERS))
def reader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SecondReader:
    folder = READERS[request.param](tmp_path_factory.mktemp(request.param) / "bundle")
    found: SecondReader = load_model(folder, BundleKind.SECOND_OPINION)
    return found


@pytest.fixture(scope="module", params=["known", "nothing known", "MR"])
def patient(request: pytest.FixtureRequest) -> AssessedPatient:
    found = results("MR", ("t1_portal_venous",)) if request.param == "MR" else results()
    clinical = ClinicalRecord() if request.param == "nothing known" else found.clinical.used
    return AssessedPatient(found.baseline, found.segmentation, found.baseline_lesions, clinical)


@pytest.fixture(scope="module")
def opinions(reader: SecondReader, patient: AssessedPatient) -> tuple[SecondOpinion, ...]:
    return reader.opinions(patient, REGIMENS)


def test_says_what_it_was_trained_on(reader: SecondReader) -> None:
    assert reader.info.trained_on.startswith(("real: ", "simulated"))
    assert len(reader.info.sha256) == 64


def test_always_says_something_and_for_whom_it_was_made(
    reader: SecondReader, opinions: tuple[SecondOpinion, ...]
) -> None:
    assert opinions
    for opinion in opinions:
        assert opinion.bundle == reader.info
        assert opinion.about.endswith(".")
        assert opinion.regimen_id in {None, *(r.id for r in REGIMENS)}


def test_values_are_finite_or_refused_with_a_sentence(opinions: tuple[SecondOpinion, ...]) -> None:
    for opinion in opinions:
        if isinstance(opinion.values, NotAssessed):
            assert opinion.values.detail.endswith(".")
            assert "\n" not in opinion.values.detail
        else:
            assert opinion.values
            for value in opinion.values:
                _check(value)


def _check(value: OpinionValue) -> None:
    assert value.name
    if isinstance(value.value, str):
        assert value.value
        assert not value.unit
        return
    assert math.isfinite(value.value)
    assert value.unit
    if "at " in value.name and value.unit == "1":
        assert 0.0 <= value.value <= 1.0
    if value.interval95 is not None:
        assert value.interval95[0] <= value.value <= value.interval95[1]


def test_pictures_are_colours(opinions: tuple[SecondOpinion, ...]) -> None:
    for picture in (p for opinion in opinions for p in opinion.pictures):
        assert picture.rgb.dtype == np.uint8
        assert picture.rgb.ndim == 3
        assert picture.rgb.shape[2] == 3


def test_the_same_patient_gets_the_same_opinions(
    reader: SecondReader, patient: AssessedPatient, opinions: tuple[SecondOpinion, ...]
) -> None:
    again = reader.opinions(patient, REGIMENS)
    assert [(o.regimen_id, o.values) for o in again] == [(o.regimen_id, o.values) for o in opinions]
