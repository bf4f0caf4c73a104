"""What every survival model must do; a new one is added to `MODELS`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest

from inference.case import ClinicalRecord, ClinicalValue
from inference.models.cox import load_cox_model
from inference.models.evidence import NOTHING_MORE, EvidenceWanted
from inference.models.protocols import SurvivalModel
from inference.models.survival.model import ProtocolSurvivalModel
from inference.models.survival.network import NetworkSize
from inference.randomness import RandomStreams
from inference.results import BundleInfo, NotAssessed, SurvivalCurve
from inference.settings import Regimen
from inference.training.survival.fit import SurvivalSettings, fit_survival
from inference.training.survival.networks import NetworkSettings
from tests.builders.survival_rows import planted_rows


@functools.cache
def protocol_model() -> SurvivalModel:
    """Fit a small one to simulated patients."""
    settings = SurvivalSettings(
        intervals=10,
        inner_folds=3,
        network_folds=2,
        draws=4,
        networks=NetworkSettings(size=NetworkSize(width=8, heads=2), networks=1, steps=10, note_every=10),
    )
    result = fit_survival(planted_rows(200, seed=8).rows, settings, RandomStreams(0), lambda *_: None)
    info = BundleInfo("protocol_survival", "1", "0" * 64, "simulated: planted")
    return ProtocolSurvivalModel(info, result.model, EvidenceWanted(image_encoder="e" * 64))


MODELS: dict[str, Callable[[], SurvivalModel]] = {
    "cox_hcc_tace_seg": load_cox_model,
    "protocol_survival": protocol_model,
}
REGIMENS = [Regimen(id=i, name=i, source="test") for i in ("tace", "haic", "tace_systemic", "untreated")]
RECORD = ClinicalRecord(
    {
        name: ClinicalValue(name, value)
        for name, value in {
            "age": 61.0,
            "bilirubin": 14.0,
            "sex": "M",
            "child_pugh_class": "A",
            "ecog": 1.0,
            "afp": 300.0,
            "tumour_number": 3.0,
            "portal_vein_thrombosis": False,
            "vascular_invasion": False,
            "metastasis": False,
        }.items()
    }
)


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> SurvivalModel:
    return MODELS[request.param]()


def test_says_what_it_was_trained_on(model: SurvivalModel) -> None:
    assert model.info.trained_on.startswith(("real: ", "simulated", "mechanistic"))
    assert len(model.info.sha256) == 64


@pytest.mark.parametrize("record", [RECORD, ClinicalRecord()], ids=["known", "nothing known"])
@pytest.mark.parametrize("regimen", REGIMENS, ids=lambda r: r.id)
def test_every_end_point_is_a_sound_curve_or_a_refusal(
    model: SurvivalModel, regimen: Regimen, record: ClinicalRecord
) -> None:
    survival = model.predict(record, (), regimen)
    for endpoint in (survival.os, survival.pfs, survival.ttp):
        if isinstance(endpoint, NotAssessed):
            assert endpoint.detail.endswith(".")
            assert "\n" not in endpoint.detail
        else:
            _check_curve(endpoint)


def _check_curve(curve: SurvivalCurve) -> None:
    columns = (curve.months, curve.survival, curve.lower, curve.upper)
    assert len({len(column) for column in columns}) == 1
    assert curve.months[0] == 0.0
    assert list(curve.months) == sorted(set(curve.months))
    assert curve.survival[0] == 1.0
    for low, middle, high in zip(curve.lower, curve.survival, curve.upper, strict=True):
        assert 0.0 <= low <= middle <= high <= 1.0
    assert all(a >= b for a, b in zip(curve.survival, curve.survival[1:], strict=False))
    assert {h for h in (12, 24, 36) if h <= curve.months[-1]} == set(curve.probabilities)
    assert curve.rmst36 is None or 0.0 < curve.rmst36 <= 36.0
    assert (curve.rmst36 is None) == (curve.months[-1] < 36)
    assert math.isfinite(curve.risk_score)
    assert curve.risk_group


def test_the_same_patient_gets_the_same_curve(model: SurvivalModel) -> None:
    assert model.predict(RECORD, (), REGIMENS[0]) == model.predict(RECORD, (), REGIMENS[0])


def test_what_it_wants_is_a_digest_and_a_name_or_nothing(model: SurvivalModel) -> None:
    assert len(model.wants.image_encoder) in (0, 64)
    assert isinstance(model.wants.text_encoder, str)


def test_no_evidence_is_the_same_as_none_given(model: SurvivalModel) -> None:
    given = model.predict(RECORD, (), REGIMENS[0], NOTHING_MORE)
    assert given == model.predict(RECORD, (), REGIMENS[0])
