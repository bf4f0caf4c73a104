"""Simulated patients have the covariates of their source, and the covariates carry the latent traits."""

from __future__ import annotations

import numpy as np
import pytest

from inference.clinical.scores import child_pugh
from inference.clinical.variables import VARIABLES
from inference.randomness import RandomStreams
from inference.simulation.calibration_covariates import covariates
from inference.simulation.latents import Person, draw_person
from inference.simulation.parameters import (
    SHIFTED,
    SimulationParameters,
    frozen_digest,
    load_parameters,
    parameters_digest,
)


@pytest.fixture(scope="module")
def parameters() -> SimulationParameters:
    return load_parameters()


@pytest.fixture(scope="module")
def people(parameters: SimulationParameters) -> list[Person]:
    return [draw_person("seed004_tace", parameters, RandomStreams(n)) for n in range(500)]


def test_the_parameters_are_those_that_were_frozen() -> None:
    assert parameters_digest() == frozen_digest()


def test_the_same_streams_give_the_same_patient(parameters: SimulationParameters) -> None:
    first, second = (draw_person("seed001", parameters, RandomStreams(4)) for _ in range(2))
    assert first == second
    assert draw_person("seed001", parameters, RandomStreams(5)) != first


def test_every_clinical_value_is_plausible(people: list[Person]) -> None:
    for person in people:
        for name, value in person.clinical.items():
            variable = VARIABLES[name]
            if variable.categories:
                assert value in variable.categories
            elif not isinstance(value, bool):
                assert variable.low <= float(value) <= variable.high, name


def test_child_pugh_is_that_of_the_laboratory_values(people: list[Person]) -> None:
    for person in people:
        c = person.clinical
        points = child_pugh(
            float(c["bilirubin"]), float(c["albumin"]), float(c["inr"]), str(c["ascites"]), "none"
        )
        assert c["child_pugh_score"] == points


@pytest.mark.parametrize("source", ["seed004_tace", "seed004_haic", "seed001"])
def test_covariates_follow_the_table_of_the_source(source: str, parameters: SimulationParameters) -> None:
    rows = covariates(source, parameters.sources[source], parameters, 500, 3)
    shares = [r for r in rows if not r.quantity.endswith("mean")]
    # Twice the error of 500 draws, on top of the source's own interval.
    assert all(r.miss < 0.045 for r in shares), [(r.quantity, r.target, r.simulated) for r in shares]


def test_doubling_times_are_those_of_the_publication(people: list[Person]) -> None:
    months = np.array([p.plan.tvdt_months for p in people])
    assert (months < 4).mean() == pytest.approx(0.35, abs=0.06)
    assert (months > 9).mean() == pytest.approx(0.38, abs=0.06)


def test_traits_show_in_what_can_be_measured(people: list[Person]) -> None:
    aggressive = np.array([p.latents.aggressiveness for p in people])
    reserve = np.array([p.latents.liver_reserve for p in people])
    afp = np.log([float(p.clinical["afp"]) for p in people])
    albumin = np.array([float(p.clinical["albumin"]) for p in people])
    supply = np.array([p.latents.vascularity for p in people])
    contrast = np.array([p.appearance.arterial_contrast_hu for p in people])
    assert 0.4 < np.corrcoef(aggressive, afp)[0, 1] < 0.8
    assert 0.6 < np.corrcoef(reserve, albumin)[0, 1] < 0.9
    assert 0.6 < np.corrcoef(supply, contrast)[0, 1] < 0.95


def test_some_values_are_missing_but_never_the_truth(people: list[Person]) -> None:
    lacking = np.mean(["crp" in p.missing for p in people])
    assert lacking == pytest.approx(0.30, abs=0.07)
    assert all("crp" in p.clinical for p in people)
    assert all(set(p.recorded) == set(p.clinical) - set(p.missing) for p in people)


def test_the_shifted_simulator_differs(parameters: SimulationParameters) -> None:
    shifted = load_parameters(SHIFTED)
    assert shifted.found == parameters.found
    assert shifted.growth.tvdt_months != parameters.growth.tvdt_months
    assert shifted.sources == parameters.sources
