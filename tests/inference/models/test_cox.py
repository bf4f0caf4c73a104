"""The Cox survival model: curves, limits, missing values, refusals."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.bundle_store import bundle_folder, seal
from inference.case import ClinicalRecord, ClinicalValue
from inference.clinical.variables import VARIABLES
from inference.errors import ModelError
from inference.models import cox
from inference.models.cox import (
    CompletedRow,
    CoxSurvivalModel,
    Design,
    EndpointModel,
    complete,
    known_share,
    load_cox_model,
    predict_curve,
)
from inference.models.cox_design import COVARIATES, covariate_row
from inference.results import Axis, LesionMeasurement, NotAssessed, Reason, SurvivalCurve
from inference.settings import Regimen
from inference.training.cox_fit import baseline_hazard, fit_cox

TACE = Regimen(id="tace", name="TACE", source="test")
HAIC = Regimen(id="haic", name="HAIC", source="test")

GOOD: dict[str, float | str | bool] = {
    "age": 60.0,
    "sex": "F",
    "afp": 5.0,
    "child_pugh_class": "A",
    "ecog": 0.0,
    "tumour_number": 1.0,
    "tumour_over_half_of_liver": False,
    "vascular_invasion": False,
    "portal_vein_thrombosis": False,
    "lymph_nodes": False,
    "metastasis": False,
    "cirrhosis": True,
    "hepatitis_b": False,
    "hepatitis_c": True,
    "diabetes": False,
}
BAD = {
    **GOOD,
    "age": 78.0,
    "afp": 20000.0,
    "child_pugh_class": "B",
    "ecog": 1.0,
    "tumour_number": 4.0,
    "portal_vein_thrombosis": True,
    "vascular_invasion": True,
}


def record(values: dict[str, float | str | bool]) -> ClinicalRecord:
    return ClinicalRecord({n: ClinicalValue(n, v, VARIABLES[n].unit) for n, v in values.items()})


def without(values: dict[str, float | str | bool], *names: str) -> ClinicalRecord:
    return record({n: v for n, v in values.items() if n not in names})


@pytest.fixture(scope="module")
def model() -> CoxSurvivalModel:
    return load_cox_model()


def os_curve(model: CoxSurvivalModel, clinical: ClinicalRecord, lesions=()) -> SurvivalCurve:
    curve = model.predict(clinical, lesions, TACE).os
    assert isinstance(curve, SurvivalCurve)
    return curve


def lesion(name: str) -> LesionMeasurement:
    axis = Axis(30.0, 0, (0, 0), (0, 1), (0, 0, 0), (30.0, 0, 0))
    return LesionMeasurement(name, 10.0, 10.0, axis, axis, axis, axis, (0, 0, 0))


# ------------------------------------------------------------------ curves


@pytest.mark.parametrize("values", [GOOD, BAD])
@pytest.mark.parametrize("endpoint", ["os", "ttp"])
def test_curve_is_a_survival_curve_with_limits(model: CoxSurvivalModel, values, endpoint: str) -> None:
    curve = getattr(model.predict(record(values), (), TACE), endpoint)
    survival, lower, upper = (np.array(c) for c in (curve.survival, curve.lower, curve.upper))
    assert curve.months == tuple(float(m) for m in range(len(survival)))
    assert survival[0] == lower[0] == upper[0] == 1.0
    for values_ in (survival, lower, upper):
        assert (np.diff(values_) <= 0).all()
    assert ((lower <= survival) & (survival <= upper)).all()
    assert lower[1] < 1.0, "no event in the first month is no certainty"
    assert (lower >= 0).all()
    for month, (p, low, high) in curve.probabilities.items():
        assert (p, low, high) == (survival[month], lower[month], upper[month])


def test_median_and_rmst(model: CoxSurvivalModel) -> None:
    curve = os_curve(model, record(BAD))
    assert set(curve.probabilities) == {12, 24, 36}
    assert curve.median_months is not None
    assert np.interp(curve.median_months, curve.months, curve.survival) == pytest.approx(0.5)
    assert curve.rmst36 == pytest.approx(np.trapezoid(curve.survival[:37], dx=1.0))


def test_time_to_progression_ends_with_its_follow_up(model: CoxSurvivalModel) -> None:
    curve = model.predict(record(GOOD), (), TACE).ttp
    assert isinstance(curve, SurvivalCurve)
    assert set(curve.probabilities) == {12}
    assert curve.rmst36 is None
    assert curve.risk_group == "not stratified"
    assert model.predict(record(BAD), (), TACE).ttp == curve, "no covariate predicted progression"


def test_median_that_is_not_reached_is_none(model: CoxSurvivalModel) -> None:
    long_lived = replace(model.endpoints["os"], hazard=model.endpoints["os"].hazard * 0.1)
    row = complete(model.design, covariate_row(record(GOOD)))
    assert predict_curve(long_lived, row).median_months is None


def test_risk_order(model: CoxSurvivalModel) -> None:
    good, bad = os_curve(model, record(GOOD)), os_curve(model, record(BAD))
    assert bad.risk_score > good.risk_score
    assert (good.risk_group, bad.risk_group) == ("low", "high")
    assert bad.probabilities[24][0] < good.probabilities[24][0] - 0.2


def test_proportional_hazards_by_hand(model: CoxSurvivalModel) -> None:
    endpoint = model.endpoints["os"]
    raw = covariate_row(record(GOOD))
    linear = float(endpoint.beta @ ((raw - model.design.mean) / model.design.scale))
    expected = np.exp(-endpoint.hazard * math.exp(linear))
    np.testing.assert_allclose(os_curve(model, record(GOOD)).survival, expected, rtol=1e-8)


def test_values_outside_the_training_range_are_moved_to_it(model: CoxSurvivalModel) -> None:
    oldest = os_curve(model, record({**GOOD, "age": 93.0}))
    assert os_curve(model, record({**GOOD, "age": 110.0})) == oldest


# ------------------------------------------------------------------ missing values


def test_missing_values_widen_the_limits(model: CoxSurvivalModel) -> None:
    full = os_curve(model, record(GOOD))
    partial = os_curve(model, without(GOOD, "portal_vein_thrombosis", "vascular_invasion"))
    for month in (12, 24, 36):
        _, low, high = full.probabilities[month]
        _, wider_low, wider_high = partial.probabilities[month]
        assert wider_high - wider_low > high - low


def test_missing_curve_is_the_mean_over_what_may_be(model: CoxSurvivalModel) -> None:
    raw = covariate_row(without(GOOD, "portal_vein_thrombosis", "age"))
    row, endpoint = complete(model.design, raw), model.endpoints["os"]
    draws = np.random.default_rng(0).multivariate_normal(row.z, row.missing_covariance, 40000, method="eigh")
    expected = np.exp(-endpoint.hazard[24] * np.exp(draws @ endpoint.beta)).mean()
    assert predict_curve(endpoint, row).survival[24] == pytest.approx(expected, abs=0.003)


def test_completion_is_the_conditional_normal_distribution() -> None:
    correlation = np.array([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 1.0]])
    wide = np.full(3, 10.0)
    design = Design(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 1.0]), -wide, wide, correlation)
    row = complete(design, np.array([3.0, np.nan, np.nan]))
    np.testing.assert_allclose(row.z, [1.0, 0.6, 0.0])
    np.testing.assert_allclose(row.missing_covariance[1, 1], 1 - 0.36)
    np.testing.assert_allclose(row.missing_covariance[2, 2], 1.0)
    assert not row.missing_covariance[0].any()
    nothing = complete(design, np.full(3, np.nan))
    np.testing.assert_allclose(nothing.z, 0.0)
    np.testing.assert_allclose(nothing.missing_covariance, correlation)


def test_without_clinical_values_nothing_is_assessed(model: CoxSurvivalModel) -> None:
    survival = model.predict(ClinicalRecord(), (lesion("L1"),), TACE)
    for endpoint in (survival.os, survival.ttp):
        assert isinstance(endpoint, NotAssessed)
        assert endpoint.reason is Reason.CLINICAL_VALUES_MISSING
        assert "Portal vein" in endpoint.detail
        assert "Number of tumours" not in endpoint.detail


def test_known_share_runs_from_nothing_to_all(model: CoxSurvivalModel) -> None:
    endpoint, names = model.endpoints["os"], list(GOOD)
    shares = []
    for known in range(len(names) + 1):
        raw = covariate_row(record({n: GOOD[n] for n in names[:known]}))
        shares.append(known_share(model.design, endpoint, complete(model.design, raw)))
    assert shares[0] == pytest.approx(0.0, abs=1e-9)
    assert shares[-1] == 1.0
    assert (np.diff(shares) >= -1e-9).all()


def test_lesions_give_the_number_of_tumours(model: CoxSurvivalModel) -> None:
    unknown = without(GOOD, "tumour_number")
    one = os_curve(model, unknown, (lesion("L1"),))
    assert one == os_curve(model, record(GOOD))
    assert os_curve(model, unknown, (lesion("L1"), lesion("L2"))).risk_score > one.risk_score


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"ecog": 0.0}, "performance_group", 0.0),
        ({"ecog": 2.0}, "performance_group", 1.0),
        ({"ecog": 4.0}, "performance_group", 2.0),
        ({"afp": 0.2}, "log10_afp", 0.0),
        ({"afp": 1000.0}, "log10_afp", 3.0),
        ({"child_pugh_score": 8.0}, "child_pugh", 1.0),
        ({"pvtt_class": "Vp2"}, "portal_vein_thrombosis", 1.0),
        ({"pvtt_class": "Vp0"}, "portal_vein_thrombosis", 0.0),
        ({"pvtt_class": "Vp2"}, "vascular_invasion", 1.0),
        ({}, "portal_vein_thrombosis", None),
    ],
)
def test_covariates(values, name: str, expected: float | None) -> None:
    found = covariate_row(record(values))[list(COVARIATES).index(name)]
    assert math.isnan(found) if expected is None else found == pytest.approx(expected)


# ------------------------------------------------------------------ refusals


def test_other_regimens_are_not_covered(model: CoxSurvivalModel) -> None:
    survival = model.predict(record(GOOD), (), HAIC)
    for endpoint in (survival.os, survival.pfs, survival.ttp):
        assert isinstance(endpoint, NotAssessed)
        assert endpoint.reason is Reason.REGIMEN_NOT_COVERED
        assert "HAIC" in endpoint.detail


def test_progression_free_survival_is_not_covered(model: CoxSurvivalModel) -> None:
    pfs = model.predict(record(GOOD), (), TACE).pfs
    assert isinstance(pfs, NotAssessed)
    assert pfs.reason is Reason.ENDPOINT_NOT_COVERED


def test_damaged_bundle_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle_folder(cox.DEFAULT_BUNDLE), copy)
    assert load_cox_model(copy).regimens == ("tace",)
    tensors = (copy / cox.MODEL_FILE).read_bytes()
    (copy / cox.MODEL_FILE).write_bytes(tensors[:-1] + bytes([tensors[-1] ^ 1]))
    with pytest.raises(ModelError, match="damaged"):
        load_cox_model(copy)


def test_bundle_of_other_covariates_or_without_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / cox.MODEL_FILE).write_bytes(b"nothing")
    common = {"name": "x", "version": "1", "trained_on": "real: x", "regimens": ["tace"]}
    seal(tmp_path, {**common, "covariates": ["age"]})
    with pytest.raises(ModelError, match="other covariates"):
        load_cox_model(tmp_path)
    seal(tmp_path, {**common, "covariates": list(COVARIATES)})
    with pytest.raises(ModelError, match="cannot be read"):
        load_cox_model(tmp_path)


# ------------------------------------------------------------------ the limits cover


def test_limits_cover_the_true_survival() -> None:
    """Pointwise 95 % limits over 400 simulated cohorts of 105 patients, with the ridge of the bundle."""
    rng = np.random.default_rng(11)
    p, months = 6, np.arange(0.0, 37.0)
    beta = np.array([0.35, 0.25, -0.25, 0.2, 0.0, 0.0])
    rate = math.log(2) / 24
    inside = {12: 0, 24: 0, 36: 0}
    cohorts = 400
    for _ in range(cohorts):
        x = rng.normal(size=(105, p))
        died = rng.exponential(1 / (rate * np.exp(x @ beta)))
        left = rng.exponential(150, size=105)
        time, event = np.minimum(died, left), died <= left
        fit = fit_cox(x, time, event, 10.0)
        base = baseline_hazard(x, time, event, fit.beta, months)
        endpoint = EndpointModel(
            fit.beta, fit.covariance, months, base.hazard, base.variance, base.gradient, 0.0
        )
        patient = rng.normal(size=p)
        curve = predict_curve(endpoint, CompletedRow(patient, np.zeros((p, p))))
        for month in inside:
            truth = math.exp(-rate * month * math.exp(float(patient @ beta)))
            inside[month] += curve.lower[month] <= truth <= curve.upper[month]
    for month, count in inside.items():
        assert 0.92 <= count / cohorts <= 0.99, (month, count / cohorts)
