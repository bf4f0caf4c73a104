"""Files of a comparison of the arms."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from inference.evaluation.arms.figures import MEASURES, figures_of
from inference.evaluation.arms.output import write_arms
from inference.evaluation.arms.plan import ARMS, Origin
from inference.evaluation.arms.run import ArmsReport, SetOfPatients
from inference.evaluation.arms.tables import from_landmark, from_treatment
from inference.evaluation.arms.validation import MONTHS, Compared, Forecast
from inference.evaluation.predictions.folder import read_predictions
from inference.evaluation.predictions.models import Arm, Role
from inference.randomness import RandomStreams
from inference.results import BundleInfo
from tests.inference.evaluation.arms.planted import PLAN, planted


def forecasts(table, rng):
    """Forecasts that anybody could make, but valid ones."""
    n = len(table.ids)
    found = {}
    for arm in table.rows:
        hazard = rng.uniform(0.005, 0.05, n)
        curves = pd.Series(MONTHS).to_numpy()[None, :] * -hazard[:, None]
        found[arm] = {name: Forecast(hazard, 2.718281828**curves) for name in table.outcomes}
    return found


@pytest.fixture(scope="module")
def report():
    rng = RandomStreams(0).derive("forecasts")
    worlds = {"test": planted(60), "external-other": planted(40, seed=1, name="other")}
    compared = [
        Compared(name, table, forecasts(table, rng))
        for make in (from_treatment, from_landmark)
        for name, world in worlds.items()
        for table in [make(world.cohort, world.seen, PLAN)]
    ]
    info = BundleInfo("some model", "1", "0" * 64, "simulated: planted, n 60")
    sets = tuple(
        SetOfPatients(name, w.cohort.info.name, w.cohort.info.sha256, "simulated", len(w.seen), 60, 0)
        for name, w in worlds.items()
    )
    figures = tuple(f for one in compared for f in figures_of(one, PLAN))
    cohorts = {name: w.cohort for name, w in worlds.items()}
    return ArmsReport(info, info, PLAN, sets, cohorts, tuple(compared), figures, {})


@pytest.fixture(scope="module")
def written(report, tmp_path_factory):
    out = tmp_path_factory.mktemp("arms")
    return out, write_arms(out, report)


def test_figures_and_tables_are_written_and_the_same_again(report, written, tmp_path):
    _, paths = written
    write_arms(tmp_path / "two", report)
    assert [p.name for p in paths[:4]] == ["arms.json", "arms.csv", "arms.md", "arms.png"]
    for path in paths[:4]:
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    found = json.loads(paths[0].read_text(encoding="utf-8"))
    assert len(found["tables"]) == 8
    table = found["tables"][0]
    figure = report.figures[0].figures[Arm.VIRTUAL]["uno_c"]
    assert table["arms"]["virtual"]["uno_c"]["value"] == pytest.approx(figure.value, abs=1e-6)
    pairs = {(d["arm"], d["less"]) for d in found["tables"][-1]["differences"]}
    assert ("virtual", "baseline_images") in pairs
    assert ("virtual", "real_follow_up") in pairs
    rows = pd.read_csv(paths[1])
    assert set(rows["measure"]) == set(MEASURES)
    assert len(rows) == sum(len(f.figures) + len(f.differences) for f in report.figures) * len(MEASURES)
    text = paths[2].read_text(encoding="utf-8")
    assert "## OS, external-other: from the follow-up image" in text
    assert f"{figure.value:.3f} ({figure.lower:.3f} to {figure.upper:.3f})" in text


@pytest.mark.parametrize(("origin", "arms"), [("treatment", 3), ("landmark", 4)])
def test_predictions_are_read_by_the_evaluation_of_predictions(report, written, origin, arms):
    found = read_predictions(written[0] / f"predictions_from_{origin}")
    assert {m.entry.arm for m in found.models} <= set(ARMS)
    assert len(found.models) == arms
    assert [m.entry.name for m in found.models if m.entry.role is Role.REFERENCE] == ["clinical"]
    assert found.patients.evaluation_sets == ("test", "external-other")
    table = next(c.table for c in report.compared if c.table.origin is Origin(origin))
    test = found.patients.in_split("test")
    assert found.patients.ids[: len(table.ids)] == table.ids
    assert found.patients.survival["os"].months[test] == pytest.approx(table.outcomes["os"].months)
    assert ("months_to_landmark" in found.patients.covariates) == (origin == "landmark")
