from __future__ import annotations

import numpy as np
import pytest

from inference.clinical.nomogram import Nomogram
from inference.errors import ModelError
from inference.training.nomogram_fit import Line, fit_nomogram
from reporting.drawing import Heading
from reporting.nomogram_picture import nomogram_picture

LINES = (
    Line("diameter", "Largest tumour", "cm"),
    Line("vp4", "Main portal trunk invaded", levels={"no": 0.0, "yes": 1.0}),
    Line("capsule", "Capsule", levels={"no": 0.0, "yes": 1.0}),
)


def _patients(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    values = np.stack([rng.uniform(2, 18, n), rng.random(n) < 0.4, rng.random(n) < 0.5], axis=1).astype(float)
    died = rng.exponential(30 * np.exp(-(0.08 * values[:, 0] + 0.9 * values[:, 1] - 0.5 * values[:, 2])))
    left = rng.uniform(6, 60, n)
    return values, np.minimum(died, left), died <= left


@pytest.fixture(scope="module")
def nomogram() -> Nomogram:
    return fit_nomogram(_patients()[0], LINES, *_patients()[1:], "pfs")


def test_the_line_with_the_largest_effect_spans_a_hundred_points(nomogram: Nomogram) -> None:
    spans = []
    for p in nomogram.file.predictors:
        ends = [nomogram.points(p, p.low), nomogram.points(p, p.high)]
        assert min(ends) == pytest.approx(0.0, abs=1e-9)
        spans.append(max(ends))
    assert max(spans) == pytest.approx(100.0)
    assert nomogram.most_total == pytest.approx(sum(spans))
    capsule = nomogram.file.predictors[2]
    assert nomogram.points(capsule, 0.0) > nomogram.points(capsule, 1.0)


def test_points_say_what_the_cox_model_says(nomogram: Nomogram) -> None:
    from lifelines import CoxPHFitter

    values, time, event = _patients()
    import pandas as pd

    table = pd.DataFrame(values, columns=["diameter", "vp4", "capsule"]).assign(time=time, event=event)
    judge = CoxPHFitter().fit(table, "time", "event")
    patients = [{"diameter": 8.0, "vp4": 1.0, "capsule": 0.0}, {"diameter": 14.0, "vp4": 0.0, "capsule": 1.0}]
    curves = judge.predict_survival_function(pd.DataFrame(patients), times=[12.0, 18.0, 24.0]).to_numpy()
    for i, patient in enumerate(patients):
        scored = nomogram.score(patient)
        # The ridge penalty of one pulls coefficients slightly.
        assert list(scored.survival.values()) == pytest.approx(curves[:, i], abs=0.015)
        assert scored.total == pytest.approx(sum(scored.points.values()))


def test_the_lines_of_survival_are_the_inverse_of_the_points(nomogram: Nomogram) -> None:
    for survival in (0.2, 0.5, 0.8):
        total = nomogram.total_of(survival, 18.0)
        assert float(nomogram.survival(total, 18.0)) == pytest.approx(survival)
    assert nomogram.total_of(0.5, 0.0) == np.inf


def test_a_missing_value_is_refused_and_a_far_one_is_told(nomogram: Nomogram) -> None:
    with pytest.raises(ModelError, match="needs Capsule"):
        nomogram.score({"diameter": 8.0, "vp4": 1.0})
    far = nomogram.score({"diameter": 40.0, "vp4": 1.0, "capsule": 0.0})
    assert far.beyond == ("diameter",)
    assert far.total <= nomogram.most_total * (1 + 1e-12)


def test_fitting_refuses_what_cannot_be_fitted() -> None:
    values, time, event = _patients(60)
    with pytest.raises(ModelError, match="at least 10"):
        fit_nomogram(np.full_like(values, np.nan), LINES, time, event, "pfs")
    flat = values.copy()
    flat[:, 2] = 1.0
    with pytest.raises(ModelError, match="Capsule is the same"):
        fit_nomogram(flat, LINES, time, event, "pfs")


def test_kept_and_read_again(nomogram: Nomogram, tmp_path) -> None:
    nomogram.write(tmp_path)
    assert Nomogram.read(tmp_path) == nomogram
    (tmp_path / "nomogram.json").write_text('{"endpoint": "pfs"}')
    with pytest.raises(ModelError, match="not valid"):
        Nomogram.read(tmp_path)


def test_the_picture_shows_the_patient(nomogram: Nomogram) -> None:
    heading = Heading("Nomogram", "Progression-free survival", "400 patients", "RESEARCH ONLY")
    plain = nomogram_picture(nomogram, heading)
    assert plain.shape == (1000, 1600, 3)
    scored = nomogram.score({"diameter": 8.0, "vp4": 1.0, "capsule": 0.0})
    marked = nomogram_picture(nomogram, heading, scored)
    changed = (plain != marked).any(axis=2)
    # Each line but that of the points gets a mark.
    assert 500 < changed.sum() < 40_000
