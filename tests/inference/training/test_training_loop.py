from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inference.errors import TrainingDataError
from inference.training.loop import LoopSettings, fit, learning_rate


def _line(model: nn.Module, rng: np.random.Generator) -> Tensor:
    x = torch.from_numpy(rng.standard_normal((16, 1)).astype(np.float32))
    loss: Tensor = (model(x) - (3.0 * x - 1.0)).square().mean()
    return loss


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def _settings(steps: int, **more: object) -> LoopSettings:
    values = {
        "steps": steps,
        "learning_rate": 0.05,
        "validate_every": 10,
        "warm_up_steps": 2,
        "weight_decay": 0.0,
    }
    return LoopSettings.model_validate(values | more)


def _quiet(_text: str, _share: float) -> None:
    return None


def test_a_line_is_learned_and_the_curve_written(tmp_path: Path) -> None:
    fitted = fit(_model(), _line, _settings(300, average_decay=0.9), tmp_path, _quiet)
    assert fitted.model.weight.item() == pytest.approx(3.0, abs=0.05)  # type: ignore[union-attr,operator]
    assert fitted.model.bias.item() == pytest.approx(-1.0, abs=0.05)  # type: ignore[union-attr,operator]
    rows = (tmp_path / "learning_curve.csv").read_text().splitlines()
    assert rows[0] == "step,training_loss,validation,seconds"
    assert len(rows) == 31
    assert (tmp_path / "learning_curve.png").stat().st_size > 1000


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop_half_way(text: str, _share: float) -> None:
        if text.startswith("step 20 "):
            raise Stopped

    whole = fit(_model(), _line, _settings(40), tmp_path / "whole", _quiet)
    settings = _settings(40, checkpoint_every_s=0.0)
    with pytest.raises(Stopped):
        fit(_model(), _line, settings, tmp_path / "parts", stop_half_way)
    parts = fit(_model(), _line, settings, tmp_path / "parts", _quiet)
    assert parts.steps == whole.steps == 40
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    figures = iter([6.0, 5.0, 4.0, 4.5, 4.6, 4.7, 4.8])
    fitted = fit(_model(), _line, _settings(500, patience=2), tmp_path, _quiet, lambda _m: next(figures))
    assert (fitted.steps, fitted.kept_step, fitted.kept_figure) == (40, 20, 4.0)


def test_the_network_before_training_is_the_first_that_is_judged(tmp_path: Path) -> None:
    figures = iter([3.0, 5.0, 4.0])
    fitted = fit(_model(), _line, _settings(500, patience=2), tmp_path, _quiet, lambda _m: next(figures))
    assert (fitted.kept_step, fitted.kept_figure) == (0, 3.0)
    assert (tmp_path / "learning_curve.csv").read_text().splitlines()[1].startswith("0,nan,3.0,")


def test_a_step_with_gradients_that_are_not_finite_is_left_out(tmp_path: Path) -> None:
    def sometimes(model: nn.Module, rng: np.random.Generator) -> Tensor:
        loss = _line(model, rng)
        return loss * float("nan") if rng.random() < 0.3 else loss

    fitted = fit(_model(), sometimes, _settings(300, average_decay=0.9), tmp_path, _quiet)
    assert 50 < fitted.skipped < 130
    assert fitted.model.weight.item() == pytest.approx(3.0, abs=0.05)  # type: ignore[union-attr,operator]


def test_the_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    fit(_model(), _line, _settings(2), tmp_path, _quiet)
    with pytest.raises(TrainingDataError, match="another network"):
        fit(nn.Sequential(nn.Linear(1, 4), nn.Linear(4, 1)), _line, _settings(3), tmp_path, _quiet)


def test_the_learning_rate_warms_up_and_falls() -> None:
    settings = _settings(100, warm_up_steps=10, final_share=0.1)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.005, rel=0.01)
    assert max(rates) == pytest.approx(0.05, rel=0.03)
    assert rates[-1] == pytest.approx(0.005, rel=0.05)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))
