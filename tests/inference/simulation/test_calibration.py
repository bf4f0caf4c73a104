"""The calibration: what it fits is met, and what it integrates is what patients drawn one by one do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_node.settings import load_settings
from inference.evaluation.measures import auroc
from inference.randomness import RandomStreams
from inference.simulation.calibration import _between, _crossing, _hazard_for, _weibull_for
from inference.simulation.calibration_information import concordance, cross_validated
from inference.simulation.calibration_measure import Row
from inference.simulation.calibration_population import Followed, Member, interval, load_targets
from inference.simulation.calibration_progression import (
    MONTHS_FINE,
    log_hazards,
    progression_free,
    survival_at,
    undisturbed,
)
from inference.simulation.calibration_refine import refined
from inference.simulation.calibration_response import ResponseCurve
from inference.simulation.calibration_run import CalibrationOrder, fit, report
from inference.simulation.parameters import load_parameters
from inference.simulation.survival import Fate, assess, outcome
from tests.builders.simulated_disease import TACE, course, round_tumour


def followed(seed: int, radius_mm: float) -> Followed:
    parameters = load_parameters()
    none_to_come = parameters.new_lesions.model_copy(update={"rate_per_month": 0.0})
    parameters = parameters.model_copy(update={"new_lesions": none_to_come})
    who = course(round_tumour(radius_mm, 0.9, nodes=36), parameters, seed=seed)
    base = who.baseline()
    seen = who.follow(TACE)
    return Followed(Member(who, Fate.draw(RandomStreams(seed)), base), seen, assess(base, seen))


@pytest.fixture(scope="module")
def arm() -> tuple[Followed, ...]:
    return tuple(followed(seed, 14.0 + 3.0 * seed) for seed in range(3))


def test_expected_death_and_spread_are_those_of_patients_drawn_one_by_one(arm: tuple[Followed, ...]) -> None:
    """Patients without tumours to come, so that all chance is in the fate."""
    found = load_parameters().found
    source = arm[0].member.person.source
    logs = log_hazards(arm, TACE)
    expected = progression_free(undisturbed(arm, TACE), logs, found.hazard[source], found.shape[source])
    times = np.array(
        [
            outcome(
                f.member.course,
                replace(Fate.draw(RandomStreams(number)), frailty=f.member.fate.frailty),
                TACE,
                f.member.baseline,
                f.follow_ups,
                f.assessments,
            ).progression_months
            for f in arm
            for number in range(400)
        ]
    )
    months = np.array([4.0, 10.0, 20.0])
    drawn = (times[:, None] > months).mean(axis=0)
    assert np.interp(months, MONTHS_FINE, expected) == pytest.approx(drawn, abs=0.06)


def test_a_hazard_meets_the_share_alive() -> None:
    logs = np.random.default_rng(0).normal(0.0, 1.0, (200, 1)) * np.ones((1, 121))
    months, wanted = np.array([12.0, 36.0, 60.0]), np.array([0.6, 0.3, 0.18])
    one = _hazard_for(logs, 1.0, months[:1], wanted[:1])
    assert survival_at(logs, one, 1.0, months[:1])[0] == pytest.approx(0.6, abs=1e-4)
    assert survival_at(logs, *_weibull_for(logs, months, wanted), months) == pytest.approx(wanted, abs=0.03)


def test_an_offset_of_the_level_meets_the_response_rate() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(0.0, 1.0, (1500, 9))
    rows[:, 1] = np.minimum(rows[:, 0], rows[:, 1])
    responded = (rows[:, 1] + 0.3 * rng.logistic(size=1500) > 0.4).astype(float)
    curve = ResponseCurve.fit(rows, responded)
    moved = rows + np.eye(9)[[0, 1]].sum(axis=0) * curve.offset_for(rows, 0.5)
    assert (moved[:, 1] > 0.4).mean() == pytest.approx(0.5, abs=0.04)
    assert curve.bias_of(rows, responded) == pytest.approx(0.0, abs=0.05)


def test_lines_are_crossed_within_and_beyond_what_was_tried() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([4.0, 6.0, 10.0])
    assert _crossing(x, y, 8.0) == pytest.approx(1.5)
    assert _crossing(x, y, 12.0) == pytest.approx(2.5)
    assert _crossing(x, y, 3.0) == pytest.approx(-0.5)
    assert _between(x, [np.array([v]) for v in y], 0.25)[0] == pytest.approx(4.5)


def test_measures_of_information() -> None:
    rng = np.random.default_rng(2)
    table = rng.normal(0.0, 1.0, (400, 4))
    labels = (table[:, 0] + rng.logistic(size=400) > 0).astype(float)
    assert 0.6 < auroc(labels, cross_validated(table, labels)) < 0.85
    assert 0.4 < auroc(rng.permutation(labels), cross_validated(table, labels)) < 0.6
    assert concordance(np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0])) == pytest.approx(2 / 3)


def test_the_bar_is_the_interval_of_the_source() -> None:
    low, high = interval(0.248, 816)
    assert (low, high) == pytest.approx((0.220, 0.279), abs=0.001)
    targets = load_targets()
    arms = {(t.source, t.regimen) for t in targets.response}
    assert {(t.source, t.regimen) for t in (*targets.progression, *targets.survival)} <= arms


def _row(topic: str, source: str, regimen: str, target: float, simulated: float) -> Row:
    nan = float("nan")
    return Row(topic, source, regimen, "", target, nan, nan, simulated, 100, "published")


def test_refinement_moves_towards_the_target_and_stays_where_it_is_met() -> None:
    found = load_parameters().found
    met = [
        _row("response", "seed004_haic", "haic", 0.3, 0.3),
        _row("progression", "emerald1", "tace", 8.0, 8.0),
        _row("survival", "launch", "tace_lenvatinib", 0.5, 0.5),
        _row("survival", "launch", "lenvatinib", 0.4, 0.4),
    ]
    same = refined(found, met)
    for group, values in found.model_dump().items():
        assert getattr(same, group) == pytest.approx(values, rel=1e-4)
    missed = [
        _row("response", "seed004_tace", "tace", 0.3, 0.2),
        _row("response", "emerald1", "tace", 0.3, 0.3),
        _row("progression", "emerald1", "tace", 8.0, 6.0),
        _row("survival", "launch", "tace_lenvatinib", 0.5, 0.4),
        _row("survival", "launch", "lenvatinib", 0.4, 0.4),
    ]
    moved = refined(found, missed)
    assert moved.intercept["tace"] > found.intercept["tace"]
    level = moved.intercept["tace"] + moved.technique["emerald1"]
    assert level == pytest.approx(found.intercept["tace"] + found.technique["emerald1"])
    assert moved.control_months["haic"] == moved.control_months["tace"] > found.control_months["tace"]
    assert moved.hazard["launch"] < found.hazard["launch"]
    control = moved.hazard["launch"] * np.exp(moved.regimen_log_hazard["lenvatinib"])
    assert control == pytest.approx(found.hazard["launch"] * np.exp(found.regimen_log_hazard["lenvatinib"]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fit_and_its_report_run_through(tmp_path: Path) -> None:
    regimens = {r.id: r for r in load_settings().regimens}
    order = CalibrationOrder(patients=12, bodies=1)
    parameters = load_parameters()
    said: list[str] = []
    found = fit(parameters, regimens, order, lambda text, share: said.append(text))
    assert set(found.intercept) == set(parameters.found.intercept)
    assert all(3.0 <= v <= 36.0 for v in found.control_months.values())
    path, rows = report(parameters.with_found(found), regimens, order, tmp_path, lambda text, share: None)
    assert {p.name for p in tmp_path.iterdir()} >= {"calibration.csv", "response.png", "survival.png"}
    assert "tace_haic_tki_pd1" in path.read_text(encoding="utf-8")
    responses = [r for r in rows if r.topic == "response"]
    assert float(np.mean([abs(r.simulated - r.target) for r in responses])) < 0.2
