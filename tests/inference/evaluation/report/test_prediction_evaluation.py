"""The figures of an evaluation, on patients whose truth is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.predictions.folder import Predictions, Study
from inference.evaluation.predictions.models import Arm, ModelEntry, Role
from inference.evaluation.report.characteristics import Quartiles, Share
from inference.evaluation.report.development_size import DevelopmentSize
from inference.evaluation.report.evaluation import evaluate_predictions
from inference.evaluation.report.plan import EvaluationPlan
from inference.evaluation.report.response import classification_of, youden
from inference.evaluation.report.sampled import NotComputed, Sampled
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.kaplan_meier import survival_curve
from inference.evaluation.survival.sample_size import survival_sample_size
from tests.builders.predictions import ALL, four_arms, survival_model, truth

PLAN = EvaluationPlan(draws=40)


def silent(_text, _share):
    pass


def evaluated(known, models, plan=PLAN):
    return evaluate_predictions(Predictions(known.patients, tuple(models), Study(), "0" * 64), plan, silent)


def model(known, name, log_hazard, role=Role.CANDIDATE, **more):
    entry = ModelEntry(name=name, title=name, arm=Arm.OTHER, end_points=ALL, role=role, **more)
    return survival_model(known, entry, log_hazard)


def only(evaluation, end_point="os"):
    return evaluation.sets[0].end_points[end_point]


def near(figure, target):
    """Whether a figure is within three standard errors; of twelve intervals of 95 % one often misses."""
    return abs(figure.value - target) < 3 * figure.draws.std()


@pytest.fixture(scope="module")
def right_and_shuffled():
    known = truth(600, seed=4)
    right = known.log_hazard()
    shuffled = np.random.default_rng(0).permutation(right)
    return known, evaluated(known, [model(known, "right", right), model(known, "shuffled", shuffled)])


@pytest.mark.parametrize("end_point", ["os", "pfs"])
def test_a_model_that_is_right_is_calibrated(right_and_shuffled, end_point):
    right = only(right_and_shuffled[1], end_point).models[0]
    for horizon in (12, 24, 36):
        assert near(right.figures[f"observed_less_predicted@{horizon}"], 0.0)
        assert near(right.figures[f"slope@{horizon}"], 1.0)
        assert right.figures[f"ici@{horizon}"].value < 0.09
    assert right.d_calibration.p > 0.01
    assert right.figures["harrell_c"].value > 0.65
    assert right.figures["ipa"].estimate.lower > 0
    assert right.risk_groups.test.p < 0.001


def test_a_shuffled_model_knows_nothing(right_and_shuffled):
    shuffled = only(right_and_shuffled[1]).models[1]
    for key in ("harrell_c", "uno_c", "auc@24"):
        assert near(shuffled.figures[key], 0.5)
        assert abs(shuffled.figures[key].value - 0.5) < 0.08
    assert shuffled.figures["ipa"].value < 0
    assert near(shuffled.figures["slope@24"], 0.0)


def test_differences_are_paired(right_and_shuffled):
    known, _ = right_and_shuffled
    right = known.log_hazard()
    near = right + 0.02 * np.random.default_rng(1).normal(size=len(right))
    result = only(evaluated(known, [model(known, "right", right), model(known, "near", near)]))
    (pair,) = result.pairs
    assert (pair.first, pair.second) == ("near", "right")
    found, alone = pair.differences["harrell_c"], result.models[0].figures["harrell_c"].estimate
    assert found.upper - found.lower < 0.2 * (alone.upper - alone.lower)
    np.testing.assert_allclose(
        found.value, result.models[1].figures["harrell_c"].value - alone.value, atol=1e-12
    )


def test_figures_are_those_of_the_patients_of_the_set(right_and_shuffled):
    known, evaluation = right_and_shuffled
    test = known.patients.in_split("test")
    follow_up = known.patients.survival["os"].of(test)
    right = only(evaluation).models[0]
    assert right.figures["harrell_c"].value == harrell_c(follow_up, known.log_hazard()[test])
    assert (right.patients, right.events) == (len(follow_up), follow_up.event.sum())
    curves = right.curves[1]
    assert sum(g.n for g in curves.groups) == len(follow_up)
    everybody = only(evaluation).treating_all[24.0]
    assert everybody[0].value > 0 > everybody[-1].value
    # Where all risks reach the threshold the model treats everybody.
    assert curves.net_benefit[0].value == pytest.approx(everybody[0].value, abs=0.02)


def test_an_unknown_follow_up_is_left_out_and_counted():
    known = truth(200)
    known.patients.survival["os"].months[-5:] = np.nan
    known.patients.survival["os"].event[-5:] = np.nan
    result = only(evaluated(known, [model(known, "right", known.log_hazard())]))
    assert (result.patients, result.unknown) == (65, 5)


# ------------------------------------------------------------------ what comes from validation patients


def test_cut_points_and_thresholds_come_from_validation_patients():
    known = truth(200)
    plain = known.log_hazard()
    found = evaluated(known, [model(known, "a", plain)])
    for split, same in (("test", True), ("validation", False)):
        moved = plain + np.where(known.patients.in_split(split), 0.5, 0.0)
        again = evaluated(known, [model(known, "a", moved)])
        cuts = [only(e).models[0].risk_groups.cuts for e in (found, again)]
        assert (cuts[0] == cuts[1]) is same
        limits = [e.sets[0].response.models[0].threshold for e in (found, again)]
        assert (limits[0] == limits[1]) is same
    groups = only(found).models[0].risk_groups
    assert groups.cut_from == "40 validation patients"
    assert [g.name for g in groups.groups] == ["low", "high"]
    assert sum(g.patients for g in groups.groups) == 70
    assert groups.groups[0].at_risk[0] == groups.groups[0].patients


def test_without_validation_patients_there_is_no_threshold():
    known = truth(200)
    known.patients.split[known.patients.in_split("validation")] = "train"
    evaluation = evaluated(known, [model(known, "a", known.log_hazard())])
    response = evaluation.sets[0].response.models[0]
    assert "there are 0 and 0" in response.threshold.reason
    assert response.figures["sensitivity"] == response.threshold
    assert isinstance(response.figures["auc"], Sampled)
    assert only(evaluation).models[0].risk_groups.cut_from == "130 training and validation patients"


def test_youden_takes_the_best_cut():
    positive = np.array([False, False, False, True, True, True])
    score = np.array([0.1, 0.2, 0.5, 0.4, 0.6, 0.7])
    assert youden(positive, score) == 0.4  # .4 gives 1 + 2/3, .6 gives 2/3 + 1: the lower of equals
    with pytest.raises(ValueError, match="same probability"):
        youden(positive, np.full(6, 0.3))


def test_classification_of_a_known_table():
    positive = np.repeat([True, True, False, False], [30, 10, 5, 55])
    called = np.repeat([True, False, True, False], [30, 10, 5, 55])
    found = classification_of(positive, called)(np.ones((1, 100)))[0]
    np.testing.assert_allclose(found, [0.85, 0.75, 55 / 60, 30 / 35, 55 / 65, 60 / 75])
    nobody = classification_of(positive, np.zeros(100, dtype=bool))(np.ones((1, 100)))[0]
    assert np.isnan(nobody[3])
    assert nobody[1] == 0


# ------------------------------------------------------------------ refusals


def test_what_cannot_be_computed_says_why():
    known = truth(200)
    late = known.patients.survival["os"]
    late.months[:] = np.minimum(late.months, 30.0)
    late.event[late.months == 30.0] = 0.0
    known.patients.survival["pfs"].event[known.patients.in_split("test")] = 0.0
    evaluation = evaluated(known, [model(known, "a", known.log_hazard())])
    overall = only(evaluation).models[0]
    assert overall.figures["auc@36"] == NotComputed(
        "too few patients followed to 36 months (0, and 10 are needed)"
    )
    assert isinstance(overall.figures["auc@24"], Sampled)
    assert isinstance(overall.curves[2].calibration, NotComputed)
    assert only(evaluation).scale.last == 24.0
    progression = only(evaluation, "pfs").models[0]
    assert progression.figures["harrell_c"] == NotComputed("too few events (0, and 10 are needed)")
    assert isinstance(progression.risk_groups, NotComputed)
    assert evaluation.sizes["a", "os"] == NotComputed(
        "models.json does not tell how many parameters were candidates"
    )


def test_subgroups_with_few_events_are_refused():
    known = truth(200)
    small = np.zeros(200, dtype=bool)
    small[np.flatnonzero(known.patients.in_split("test"))[:6]] = True
    known.patients.covariates["rare"] = np.where(small, "yes", "no")
    groups = only(evaluated(known, [model(known, "a", known.log_hazard())])).models[0].subgroups
    by_name = {(g.column, g.name): g for g in groups}
    rare, usual = by_name["rare", "yes"], by_name["rare", "no"]
    assert rare.concordance.reason.startswith("too few events (")
    assert rare.less_rest == rare.concordance
    assert isinstance(usual.concordance, Sampled)
    assert isinstance(usual.less_rest, NotComputed)
    east = by_name["centre", "east"]
    member = known.patients.in_split("test") & (known.patients.centre == "east")
    follow_up = known.patients.survival["os"].of(member)
    assert east.concordance.value == harrell_c(follow_up, known.log_hazard()[member])
    assert isinstance(east.less_rest, Estimate)
    assert {"sex", "age", "bclc", "pvtt", "regimen"} <= {g.column for g in groups}
    assert ("bclc", "not known") in by_name
    assert "albumin" not in {g.column for g in groups}


# ------------------------------------------------------------------ arms


def test_arms_are_compared_from_the_landmark_on():
    known = truth(300)
    evaluation = evaluated(known, four_arms(known))
    arms = only(evaluation).arms
    outcome = known.patients.survival["os"]
    among = known.patients.in_split("test") & (outcome.months > 3)
    assert (arms.start, arms.patients) == (3.0, among.sum())
    clinical = arms.figures[Arm.CLINICAL]
    assert clinical["harrell_c"].value == harrell_c(outcome.of(among), known.log_hazard(1)[among])
    # Hazards are constant, so survival to 24 months from month 3 on is that of 21 months.
    expected = 1 - np.exp(-np.exp(known.log_hazard(1)[among]) * 21 / 26)
    assert clinical["predicted@24"].value == pytest.approx(expected.mean(), abs=1e-9)
    found = arms.differences[Arm.REAL_FOLLOW_UP, Arm.CLINICAL]["harrell_c"]
    assert found.lower > 0
    assert set(arms.figures) == {Arm.CLINICAL, Arm.BASELINE_IMAGES, Arm.REAL_FOLLOW_UP, Arm.VIRTUAL}
    assert all("real" not in (p.first, p.second) for p in only(evaluation).pairs)
    alone = evaluated(known, four_arms(known)[:1])
    assert "fewer than two arms" in only(alone).arms.reason


# ------------------------------------------------------------------ patients and sizes


def test_characteristics_compare_with_the_training_part():
    known = truth(200)
    table = evaluated(known, [model(known, "a", known.log_hazard())]).patients
    assert [s.name for s in table.splits] == ["train", "validation", "test"]
    assert [s.patients for s in table.splits] == [90, 40, 70]
    rows = {(r.column, r.value): r for r in table.rows}
    train, test = (known.patients.in_split(s) for s in ("train", "test"))
    ages = known.patients.covariates["age"]
    age = rows["age", ""].cells[2]
    assert isinstance(age, Quartiles)
    assert age.median == ages[test].median()
    expected = (ages[test].mean() - ages[train].mean()) / np.sqrt((ages[test].var() + ages[train].var()) / 2)
    assert age.difference == pytest.approx(expected)
    male = rows["sex", "male"].cells
    assert isinstance(male[0], Share)
    assert male[0].difference in (0.0, None)
    assert male[2].patients == (known.patients.covariates["sex"][test] == "male").sum()
    assert rows["bclc", "A"].missing[0] == known.patients.covariates["bclc"][train].isna().sum()


def test_the_size_of_development_follows_the_criteria():
    known = truth(200)
    evaluation = evaluated(known, [model(known, "a", known.log_hazard(), parameters=12)])
    size = evaluation.sizes["a", "os"]
    assert isinstance(size, DevelopmentSize)
    train = known.patients.survival["os"].of(known.patients.in_split("train"))
    rate, mean = train.event.sum() / train.time.sum(), train.time.mean()
    assert size.needed == survival_sample_size(size.r2, 12, rate, mean, 36.0)
    assert (size.patients, size.events) == (90, train.event.sum())
    assert evaluation.sizes["a", "response"].needed.patients > 0


def test_median_follow_up_counts_the_lost():
    known = truth(200)
    result = only(evaluated(known, [model(known, "a", known.log_hazard())]))
    follow_up = known.patients.survival["os"].of(known.patients.in_split("test"))
    lost = dataclasses.replace(follow_up, event=~follow_up.event)
    assert result.follow_up == survival_curve(lost).median


def test_the_builder_is_what_it_says():
    known = truth(200)
    assert pd.Series(known.patients.split).value_counts().to_dict() == {
        "train": 90,
        "test": 70,
        "validation": 40,
    }
