from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import kstest

from inference.case import ClinicalRecord, ClinicalValue
from inference.errors import ModelError, UnsupportedRegimen
from inference.models.outcome.crops import PatientCrop
from inference.models.outcome.design import Standardiser, hats
from inference.models.outcome.doses import DOSE_NAMES, doses_given
from inference.models.outcome.features import clinical_features, patient_features, radiomics, sphericity
from inference.models.outcome.model import OutcomeModel, nearest, weighted_quantiles
from inference.settings import Regimen
from tests.builders.flow_bundles import HAIC, TACE, TRIPLE, outcome_model


@pytest.fixture(scope="module")
def model() -> OutcomeModel:
    return outcome_model()


def features(contrast: float) -> dict[str, float]:
    return {"log_viable_ml": 3.0, "contrast_0": contrast, "afp": 4.0}


def test_doses_are_what_has_been_given_by_a_month() -> None:
    at = {n: (doses_given(TACE, 1.0)[i], doses_given(TACE, 2.0)[i]) for i, n in enumerate(DOSE_NAMES)}
    assert at["tace_given"] == (0.5, 1.0)  # the second session is on day 42
    assert at["lipiodol"] == (1.0, 1.0)
    assert doses_given(TRIPLE, 1.0)[DOSE_NAMES.index("tki")] == pytest.approx(0.5)
    assert not doses_given(HAIC, 3.0)[: DOSE_NAMES.index("haic_given")].any()


def test_months_between_knots_are_interpolated_and_held_beyond() -> None:
    knots = np.array([1.0, 3.0, 6.0])
    basis = hats(np.array([0.5, 2.0, 3.0, 9.0]), knots)
    assert basis.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]]


def test_missing_feature_is_the_mean_and_a_flag() -> None:
    rows = [{"a": float(i), "b": float(i) if i % 4 else float("nan"), "c": 1.0} for i in range(20)]
    fitted = Standardiser.of(rows)
    assert fitted.names == ("a", "b")  # c does not vary
    matrix = fitted.matrix([{"a": 1e9}])
    assert matrix.tolist() == [[3.5, 0.0, 1.0]]


def test_stronger_regimen_and_better_contrast_leave_less(model) -> None:
    noise = model.noise(64, np.random.default_rng(0))

    def left(regimen: Regimen, contrast: float) -> float:
        x = model.standardised(features(contrast))
        return float(model.outcomes(x, regimen, 3.0, noise).viable.mean())

    assert left(TRIPLE, 40.0) < left(TACE, 40.0) < left(HAIC, 40.0)
    assert left(TACE, 70.0) < left(TACE, 40.0) < left(TACE, 10.0)


def test_lipiodol_comes_with_tace_only(model) -> None:
    x = model.standardised(features(40.0))
    noise = model.median()
    assert model.outcomes(x, TACE, 3.0, noise).lipiodol[0] > 0.05
    assert model.outcomes(x, HAIC, 3.0, noise).lipiodol[0] < 0.01


def test_noise_belongs_to_the_patient_not_to_the_regimen(model) -> None:
    x = model.standardised(features(40.0))
    noise = model.noise(200, np.random.default_rng(1))
    tace, haic = (model.outcomes(x, r, 3.0, noise).viable for r in (TACE, HAIC))
    assert np.corrcoef(tace, haic)[0, 1] > 0.9
    again = model.outcomes(x, TACE, 3.0, noise).viable
    assert np.array_equal(tace, again)


def test_few_samples_have_one_in_each_part_of_every_distribution(model) -> None:
    numbers = model.noise(8, np.random.default_rng(4)).targets / model.settings.spread
    parts = np.sort(np.floor(8 * ndtr(numbers)), axis=0)
    assert (parts == np.arange(8)[:, None, None]).all()


def test_stratified_samples_stay_normal_and_correlated_over_targets_and_months(model) -> None:
    rng = np.random.default_rng(5)
    alone = np.concatenate([model.noise(1, rng).targets for _ in range(4000)])
    together = np.concatenate([model.noise(8, rng).targets for _ in range(500)])
    spread = model.settings.spread
    for numbers in (alone / spread, together / spread):
        assert kstest(numbers[:, 0, 3], "norm").pvalue > 0.01
    for a, b in (((0, 3), (0, 6)), ((0, 3), (1, 3)), ((0, 3), (3, 12))):
        expected, found = (np.corrcoef(z[:, *a], z[:, *b])[0, 1] for z in (alone, together))
        assert found == pytest.approx(expected, abs=0.08)


def test_the_interval_is_that_of_very_many_samples(model) -> None:
    x = model.standardised(features(40.0))
    noise = model.noise(40_000, np.random.default_rng(3))
    for months in (1.0, 4.0, 6.0):
        drawn = model.outcomes(x, TACE, months, noise).viable
        low, high = model.viable_interval(x, TACE, months, 0.8)
        assert np.mean(drawn < low) <= 0.105
        assert np.mean(drawn > high) <= 0.105
        assert np.mean(drawn <= low) >= 0.095
        assert np.mean(drawn >= high) >= 0.095


def test_a_patient_who_does_well_early_does_well_later(model) -> None:
    x = model.standardised(features(40.0))
    noise = model.noise(400, np.random.default_rng(2))
    early, late = (model.outcomes(x, TACE, m, noise).viable for m in (3.0, 6.0))
    assert np.corrcoef(early, late)[0, 1] > 0.6


def test_regimen_of_which_nothing_was_seen_is_refused(model) -> None:
    other = TACE.model_copy(update={"id": "ablation", "name": "Ablation"})
    with pytest.raises(UnsupportedRegimen, match="Ablation"):
        model.outcomes(model.standardised(features(1.0)), other, 3.0, model.median())


def test_model_is_read_as_it_was_written(model, tmp_path) -> None:
    model.write(tmp_path)
    read = OutcomeModel.read(tmp_path)
    x = model.standardised(features(33.0))
    assert read.settings == model.settings
    first, second = (m.outcomes(x, TACE, 3.0, m.median()).viable for m in (model, read))
    assert second == pytest.approx(first, rel=1e-4)
    (tmp_path / "outcome.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError):
        OutcomeModel.read(tmp_path)


def test_analogues_are_the_nearest_and_moved() -> None:
    means, values = np.array([0.0, 1.0, 2.0, 9.0]), np.array([0.1, 1.1, 2.1, 9.1])
    moved, weights = nearest(means, values, 1.0, 3)
    assert sorted(moved.tolist()) == pytest.approx([1.1, 1.1, 1.1])
    assert weights.max() == 1.0
    quantiles = weighted_quantiles(np.array([3.0, 1.0, 2.0]), np.ones(3), np.array([0.0, 0.5, 1.0]))
    assert quantiles.tolist() == [1.0, 2.0, 3.0]


def crop(radius: float = 8.0, arterial: float = 120.0) -> PatientCrop:
    z, y, x = np.mgrid[:32, :32, :32] - 15.5
    distance = np.sqrt(z**2 + y**2 + x**2)
    liver = (distance < 15).astype(np.float32)
    fractions = np.zeros((3, 32, 32, 32), np.float32)
    fractions[0] = distance < radius
    images = np.stack([np.where(distance < radius, arterial, 70.0), np.where(distance < radius, 85.0, 110.0)])
    return PatientCrop(images.astype(np.float32), liver, fractions, (distance < radius).astype(np.uint8))


def test_radiomics_measure_what_was_drawn() -> None:
    found = radiomics(crop())
    assert found["contrast_0"] == pytest.approx(50.0)
    assert found["contrast_1"] == pytest.approx(-25.0)
    assert found["washout"] == pytest.approx(75.0)
    assert np.exp(found["log_largest_mm"]) == pytest.approx(2 * 8.0 * 2.25, rel=0.02)
    assert found["at_surface"] == 0.0
    assert found["sphericity"] == pytest.approx(1.0, abs=0.05)
    slab = np.zeros((32, 32, 32), bool)
    slab[15:17, 2:30, 2:30] = True
    assert sphericity(slab) < 0.7


def test_phase_that_was_not_acquired_is_missing_not_zero() -> None:
    seen = crop()
    images = seen.images.copy()
    images[0] = np.nan
    found = radiomics(PatientCrop(images, seen.liver, seen.fractions, seen.lesion))
    assert np.isnan(found["contrast_0"])
    assert np.isnan(found["washout"])
    assert found["contrast_1"] == pytest.approx(-25.0)


def test_clinical_values_become_numbers_and_stay_missing() -> None:
    record = ClinicalRecord({"afp": ClinicalValue("afp", 100.0, "ng/ml")})
    found = clinical_features(record)
    assert found["afp"] == pytest.approx(np.log(100.0))
    assert np.isnan(found["age"])
    assert set(found) <= set(patient_features(crop(), record))
