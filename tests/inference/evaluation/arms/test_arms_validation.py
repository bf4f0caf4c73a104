"""Cross-validated and external forecasts of the arms, and their measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.errors import TrainingDataError
from inference.evaluation.arms.figures import figures_of
from inference.evaluation.arms.plan import Origin
from inference.evaluation.arms.tables import from_landmark, from_treatment
from inference.evaluation.arms.validation import MONTHS, Compared, Forecast, compared, fits_of, folds_of
from inference.evaluation.predictions.models import Arm
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.training.survival.rows import Followed
from tests.inference.evaluation.arms.planted import PLAN, planted


def quiet(_text, _share):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The landmark tables of a cohort and an external one, with the folder that keeps the forecasts."""
    kept = tmp_path_factory.mktemp("forecasts")
    world, other = planted(150), planted(70, seed=1, name="other")
    tables = {Origin.LANDMARK: from_landmark(world.cohort, world.seen, PLAN)}
    external = {"external-other": {Origin.LANDMARK: from_landmark(other.cohort, other.seen, PLAN)}}
    found = compared(tables, external, PLAN, kept, {"cohort": "planted"}, 1, quiet)
    return tables, external, kept, found


def test_what_only_real_images_tell_is_found_in_their_arm_alone(made):
    for one in made[3]:
        overall, progression = figures_of(one, PLAN)
        for found in (overall, progression):
            c = {arm: values["harrell_c"].value for arm, values in found.figures.items()}
            assert c[Arm.REAL_FOLLOW_UP] > c[Arm.CLINICAL] + 0.08
            assert abs(c[Arm.VIRTUAL] - c[Arm.CLINICAL]) < 0.06
        assert overall.differences[Arm.REAL_FOLLOW_UP, Arm.CLINICAL]["harrell_c"].lower > 0
    assert [one.set_name for one in made[3]] == ["test", "external-other"]


def test_held_out_patients_do_not_shape_their_own_forecasts(made):
    table = made[0][Origin.LANDMARK]
    folds = folds_of(table, PLAN)
    before = fits_of(table, (), PLAN)[Arm.REAL_FOLLOW_UP, 0]
    rows = table.rows[Arm.REAL_FOLLOW_UP]
    turned = {}
    for name, followed in rows.outcomes.items():
        months = followed.months.copy()
        months[folds[0]] = months[folds[0]][::-1]
        turned[name] = Followed(months, followed.event)
    changed = replace(rows, outcomes=turned)
    kept = np.setdiff1d(np.arange(len(table.ids)), folds[0])
    assert len(before.rows.split) == len(kept)
    for name, followed in before.rows.outcomes.items():
        np.testing.assert_array_equal(followed.months, changed.outcomes[name].months[kept])
    np.testing.assert_array_equal(before.others[0].images.features, rows.inputs.images.features[folds[0]])


def test_every_patient_is_forecast_once_and_at_its_own_place(made):
    tables, _, _, found = made
    table = tables[Origin.LANDMARK]
    forecast = found[0].forecasts[Arm.REAL_FOLLOW_UP]["os"]
    assert forecast.survival.shape == (len(table.ids), len(MONTHS))
    fold = folds_of(table, PLAN)[1]
    alone = fits_of(table, (), PLAN)[Arm.REAL_FOLLOW_UP, 1]()[0]["os"]
    np.testing.assert_allclose(forecast.risk[fold], alone.risk)
    np.testing.assert_allclose(forecast.survival[fold], alone.survival)


def test_forecasts_that_were_kept_are_not_made_again(made):
    tables, external, kept, found = made
    for path in kept.glob("landmark_clinical_*.npz"):
        path.unlink()
    changed = kept / "landmark_virtual_0.npz"
    before = changed.stat().st_mtime_ns
    again = compared(tables, external, PLAN, kept, {"cohort": "planted"}, 1, quiet)
    assert changed.stat().st_mtime_ns == before
    for arm in (Arm.CLINICAL, Arm.VIRTUAL):
        np.testing.assert_array_equal(again[0].forecasts[arm]["os"].risk, found[0].forecasts[arm]["os"].risk)
    with pytest.raises(TrainingDataError, match="another evaluation"):
        compared(tables, external, replace(PLAN, seed=1), kept, {"cohort": "planted"}, 1, quiet)


def test_too_few_events_are_told():
    world = planted(40)
    table = from_treatment(world.cohort, world.seen, PLAN)
    with pytest.raises(TrainingDataError, match="too few for 30 folds"):
        folds_of(table, replace(PLAN, folds=30))


def test_measures_are_those_of_the_package_and_differences_are_paired(made):
    one = made[3][0]
    found = figures_of(one, PLAN)[0]
    followed = one.table.outcomes["os"]
    risk = one.forecasts[Arm.CLINICAL]["os"].risk
    figure = found.figures[Arm.CLINICAL]["harrell_c"]
    assert figure.value == pytest.approx(harrell_c(FollowUp(followed.months, followed.event), risk))
    assert figure.lower < figure.value < figure.upper
    gap = found.differences[Arm.VIRTUAL, Arm.BASELINE_IMAGES]["ibs"]
    values = [found.figures[arm]["ibs"].value for arm in (Arm.VIRTUAL, Arm.BASELINE_IMAGES)]
    assert gap.value == pytest.approx(values[0] - values[1])
    # Two arms of one forecast do not differ in any draw.
    same = replace(one, forecasts={**one.forecasts, Arm.VIRTUAL: one.forecasts[Arm.CLINICAL]})
    none = figures_of(same, PLAN)[0].differences[Arm.VIRTUAL, Arm.CLINICAL]["uno_c"]
    assert (none.value, none.lower, none.upper) == (0.0, 0.0, 0.0)


def test_a_horizon_beyond_the_follow_up_is_told_and_not_invented():
    world = planted(40)
    short = world.cohort.patients.assign(os_months=np.linspace(0.5, 20.0, 40))
    table = from_treatment(replace(world.cohort, patients=short), world.seen, PLAN)
    n = len(table.ids)
    forecast = Forecast(np.arange(n) / n, np.full((n, len(MONTHS)), 0.5))
    each = {arm: {"os": forecast, "pfs": forecast} for arm in table.rows}
    found = figures_of(Compared("test", table, each), PLAN)[0]
    assert "beyond the follow-up" in found.reasons["auc@36"]
    assert not found.figures[Arm.CLINICAL]["auc@36"].known
    assert found.figures[Arm.CLINICAL]["auc@12"].known
