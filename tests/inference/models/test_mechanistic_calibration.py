from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from inference.models.mechanistic import MechanisticGenerator
from inference.settings import Regimen
from inference.training.calibrate_mechanistic import (
    best_change,
    bisect,
    longest_axial_mm,
    population,
    response_rates,
)

CONFIG = Path(__file__).resolve().parents[3] / "config" / "regimens.yaml"


@pytest.fixture(scope="module")
def regimens() -> dict[str, Regimen]:
    table = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["regimens"]
    return {entry["id"]: Regimen.model_validate(entry) for entry in table}


def test_virtual_patients_are_always_the_same() -> None:
    parameters = MechanisticGenerator.from_bundle().parameters
    one, two = (population("seed 004 TACE", 2, parameters, 5) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert a.sensitivity == b.sensitivity
        assert np.array_equal(a.fields.log_delivery, b.fields.log_delivery)


def test_combination_responds_better_than_its_parts_and_untreated_patients_not_at_all(regimens) -> None:
    parameters = MechanisticGenerator.from_bundle().parameters
    patients = population("seed 004 TACE", 7, parameters, 99)
    change = {
        name: np.array([best_change(p, regimens[name], parameters) for p in patients])
        for name in ("untreated", "tace", "tace_lenvatinib")
    }
    assert (change["untreated"] >= 0).all()
    assert (change["tace_lenvatinib"] <= change["tace"] + 1e-9).all()
    assert (change["tace_lenvatinib"] < change["tace"]).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("regimen", ["tace", "tace_lenvatinib", "tace_durvalumab_bevacizumab"])
def test_published_response_rates_are_reached_on_new_virtual_patients(regimens, regimen) -> None:
    parameters = MechanisticGenerator.from_bundle().parameters
    patients = population("seed 004 TACE", 120, parameters, 4711)
    objective, complete = response_rates(patients, regimens[regimen], parameters)
    target = parameters.regimens[regimen].orr_target
    # Twice the standard error of the published share at this number of patients.
    assert abs(objective - target) < 2.0 * np.sqrt(target * (1 - target) / 120)
    assert complete < objective


def test_longest_axial_extent_is_of_one_part_on_one_slice() -> None:
    mask = np.zeros((3, 30, 30), bool)
    mask[1, 5, 2:12] = True
    mask[1, 25, 20:25] = True
    mask[:, 15, 15] = True
    assert longest_axial_mm(mask) == pytest.approx(10 * 4.0)
    assert longest_axial_mm(np.zeros((2, 4, 4), bool)) == 0.0


def test_bisection_finds_the_value_of_a_rate() -> None:
    assert bisect(lambda v: v / (1 + v), 0.25, 0.02, 4.0, 20) == pytest.approx(1 / 3, abs=1e-3)
