from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.bundle_store import seal
from inference.case import ClinicalRecord, ClinicalValue
from inference.errors import ModelError, TrainingDataError
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.models.evidence import NOTHING_MORE
from inference.models.survival.files import TENSORS, read_model, write_model
from inference.models.survival.fitted import Inputs
from inference.models.survival.model import ProtocolSurvivalModel
from inference.models.survival.network import NetworkSize
from inference.randomness import RandomStreams
from inference.results import NotAssessed, Reason, SurvivalCurve
from inference.settings import Regimen
from inference.training.cohort import Split
from inference.training.survival.bundle import without_images
from inference.training.survival.figures import figures
from inference.training.survival.fit import FitResult, SurvivalSettings, fit_survival
from inference.training.survival.networks import NetworkSettings
from inference.training.survival.rows import Followed, SurvivalRows
from tests.builders.survival_rows import Planted, planted_rows

SIZE = NetworkSize(width=8, heads=2)
SETTINGS = SurvivalSettings(
    intervals=12,
    inner_folds=3,
    network_folds=2,
    draws=12,
    # Kept whatever inner folds say, so that every part of the model is at work.
    networks=NetworkSettings(
        size=SIZE, networks=2, steps=20, note_every=20, batch=64, shares=(0.5,), needed_gain=-1e9
    ),
)
TACE = Regimen(id="tace", name="TACE", source="none")


@pytest.fixture(scope="module")
def planted() -> Planted:
    return planted_rows(420, seed=3)


@pytest.fixture(scope="module")
def result(planted: Planted) -> FitResult:
    return fit_survival(planted.rows, SETTINGS, RandomStreams(0), lambda *_: None)


def _test(planted: Planted) -> SurvivalRows:
    found = planted.rows.part(Split.TEST)
    assert found is not None
    return found


def _c(result: FitResult, rows: SurvivalRows) -> float:
    followed = rows.outcomes["os"]
    risk = 1.0 - result.model.survival("os", rows.inputs, [24.0])[:, 0]
    return harrell_c(FollowUp(followed.months, followed.event), risk)


def test_the_planted_image_effect_is_found(planted: Planted, result: FitResult) -> None:
    test = _test(planted)
    with_images, without = _c(result, test), _c(result, without_images(test))

    assert without > 0.55
    assert with_images > without + 0.05
    assert result.penalties["os"]["baseline"] < np.inf


def test_without_images_the_forecast_is_that_of_clinical_values_and_calibrated(
    planted: Planted, result: FitResult
) -> None:
    test = without_images(_test(planted))
    bare = replace(test.inputs, images=replace(test.inputs.images, features=test.inputs.images.features * 0))

    np.testing.assert_allclose(
        result.model.survival("os", test.inputs, [12.0]), result.model.survival("os", bare, [12.0]), atol=1e-6
    )


def test_forecasts_agree_with_what_happened_on_average(planted: Planted, result: FitResult) -> None:
    test = _test(planted)
    truth = planted.truth[planted.rows.split == "test"]

    found = result.model.survival("os", test.inputs, [12.0, 24.0]).mean(axis=0)

    expected = [np.exp(-np.exp(truth) * t / 30.0).mean() for t in (12.0, 24.0)]
    np.testing.assert_allclose(found, expected, atol=0.09)


def test_limits_enclose_curves_that_fall(planted: Planted, result: FitResult) -> None:
    months = np.arange(0.0, 40.0, 2.0)
    survival = result.model.survival("pfs", _test(planted).inputs, months)
    lower, upper = result.model.limits("pfs", _test(planted).inputs, months)

    assert (np.diff(survival, axis=1) <= 0).all()
    np.testing.assert_allclose(survival[:, 0], 1.0)
    assert (lower <= survival).all()
    assert (survival <= upper).all()
    assert 0.02 < float((upper - lower)[:, 6].mean()) < 0.6


def test_the_same_seed_gives_the_same_forecasts(planted: Planted, result: FitResult) -> None:
    again = fit_survival(planted.rows, SETTINGS, RandomStreams(0), lambda *_: None)
    inputs = _test(planted).inputs

    np.testing.assert_array_equal(
        again.model.survival("os", inputs, [12.0]), result.model.survival("os", inputs, [12.0])
    )


def test_explanations_name_columns_images_and_modalities(planted: Planted, result: FitResult) -> None:
    found = result.model.explain("os", _test(planted).inputs)

    assert found.share > 0
    assert set(found.contributions) == {"bilirubin", "age", "regimen"}
    assert found.contributions["bilirubin"].std() > found.contributions["age"].std()
    assert set(found.gates) == {"clinical", "images", "regimen"}
    missing = ~_test(planted).inputs.images.known.any(axis=1)
    assert not found.gates["images"][missing].any()
    np.testing.assert_allclose(sum(found.attention.values()), 1.0, rtol=1e-5)


def test_figures_are_those_of_our_own_concordance(planted: Planted, result: FitResult) -> None:
    test = _test(planted)
    followed = test.outcomes["os"]
    grid = result.model.grid
    hazards = np.exp(result.model.log_hazards("os", test.inputs))
    risk = np.log(hazards @ grid.exposure([grid.nodes[-2]])[0])

    found = figures(result.model, test)["os"]

    assert found["c"] == pytest.approx(harrell_c(FollowUp(followed.months, followed.event), risk), abs=2e-4)
    assert found["events"] == followed.event.sum()


# ------------------------------------------------------------------ the bundle


@pytest.fixture(scope="module")
def served(result: FitResult, tmp_path_factory: pytest.TempPathFactory) -> ProtocolSurvivalModel:
    folder = tmp_path_factory.mktemp("bundle")
    write_model(folder, result.model, SIZE)
    seal(folder, {"name": "protocol_survival", "version": "1.0.0", "trained_on": "simulated"})
    return ProtocolSurvivalModel.from_bundle(folder)


def _record(bilirubin: float | None) -> ClinicalRecord:
    values = {"age": ClinicalValue("age", 60.0, "years")}
    if bilirubin is not None:
        values["bilirubin"] = ClinicalValue("bilirubin", bilirubin, "umol/L")
    return ClinicalRecord(values)


def test_a_bundle_gives_back_the_same_forecasts(
    planted: Planted, result: FitResult, served: ProtocolSurvivalModel
) -> None:
    inputs, months = _test(planted).inputs, [6.0, 12.0, 30.0]

    for name in ("os", "pfs"):
        np.testing.assert_array_equal(
            served.fitted.survival(name, inputs, months), result.model.survival(name, inputs, months)
        )
        np.testing.assert_array_equal(
            served.fitted.limits(name, inputs, months), result.model.limits(name, inputs, months)
        )


def test_one_patient_gets_curves_with_horizons_median_and_mean(served: ProtocolSurvivalModel) -> None:
    mild = served.predict(_record(10.0), (), TACE)
    severe = served.predict(_record(90.0), (), TACE)

    assert isinstance(mild.os, SurvivalCurve)
    assert isinstance(severe.os, SurvivalCurve)
    assert set(mild.os.probabilities) == {12, 24, 36}
    assert mild.os.probabilities[24][0] > severe.os.probabilities[24][0]
    assert severe.os.median_months is not None
    assert mild.os.rmst36 is not None
    assert isinstance(mild.pfs, SurvivalCurve)
    assert isinstance(mild.ttp, NotAssessed)


def test_images_of_one_patient_change_the_curve(planted: Planted, served: ProtocolSurvivalModel) -> None:
    images = planted.rows.inputs.images
    signal = planted.imaged
    known = np.flatnonzero(images.known.all(axis=1))
    best, worst = known[np.argmin(signal[known])], known[np.argmax(signal[known])]

    clinical = served.inputs(_record(20.0), TACE.id, NOTHING_MORE)
    seen = [replace(clinical, images=images.of(np.array([i]))) for i in (best, worst)]
    better, worse = (float(served.fitted.survival("os", inputs, [12.0])[0, 0]) for inputs in seen)

    assert better > worse + 0.1


def test_too_few_values_and_unknown_regimens_are_refused(served: ProtocolSurvivalModel) -> None:
    refused = served.predict(_record(None), (), TACE).os
    unknown = served.predict(_record(20.0), (), TACE.model_copy(update={"id": "surgery"})).os

    assert isinstance(refused, NotAssessed)
    assert refused.reason is Reason.CLINICAL_VALUES_MISSING
    assert "bilirubin" in refused.detail
    assert isinstance(unknown, NotAssessed)
    assert unknown.reason is Reason.REGIMEN_NOT_COVERED


def test_a_damaged_bundle_is_an_error(result: FitResult, tmp_path: Path) -> None:
    write_model(tmp_path, result.model, SIZE)
    (tmp_path / TENSORS).write_bytes(b"nothing")

    with pytest.raises(ModelError, match="cannot be read"):
        read_model(tmp_path)


# ------------------------------------------------------------------ rows


def test_rows_without_events_or_of_different_lengths_are_refused(planted: Planted) -> None:
    rows = planted.rows
    nobody = {name: Followed(f.months, np.zeros_like(f.event)) for name, f in rows.outcomes.items()}

    with pytest.raises(TrainingDataError, match="has an event of the end point os"):
        replace(rows, outcomes=nobody)
    with pytest.raises(TrainingDataError, match="different numbers"):
        SurvivalRows(rows.inputs.of(np.arange(5)), rows.image_kinds, rows.outcomes, rows.split)


def test_a_part_without_events_is_none(planted: Planted) -> None:
    split = np.full(len(planted.rows.split), "train")

    assert replace(planted.rows, split=split).part(Split.VALIDATION) is None


def test_some_of_the_inputs_are_those_patients(planted: Planted) -> None:
    inputs: Inputs = planted.rows.inputs.of(np.array([4, 2]))

    assert len(inputs) == 2
    assert inputs.table["regimen"] == [planted.rows.inputs.table["regimen"][i] for i in (4, 2)]
