"""Fitting a Cox nomogram on complete patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from inference.clinical.nomogram import Nomogram, NomogramFile, Predictor
from inference.errors import ModelError
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray
from inference.training.cox_fit import baseline_hazard, fit_cox

_ENDS = (1.0, 99.0)
_PENALTY = 1.0
_FEWEST = 10


@dataclass(frozen=True, slots=True)
class Line:
    """What a predictor is called; `levels` names the values of a yes-no question or of grades."""

    name: str
    label: str
    unit: str = ""
    levels: Mapping[str, float] = field(default_factory=dict)


def fit_nomogram(
    values: FloatArray,
    lines: Sequence[Line],
    time: FloatArray,
    event: BoolArray,
    endpoint: str,
    months: tuple[float, ...] = (12.0, 18.0, 24.0),
) -> Nomogram:
    """Fit a Cox model with a slight ridge penalty and return it as a nomogram.

    Patients with a missing value are left out. The line of a number runs from its 1st to its 99th
    percentile; that of grades from the least to the largest.

    Parameters
    ----------
    values : array, (n, lines)
        NaN for what is missing.
    time, event : array, (n,)
        Months, and whether the event was seen.

    Raises
    ------
    ModelError
        Fewer than ten complete patients, no event, or a predictor that never differs.
    """
    complete = np.isfinite(values).all(axis=1)
    x, time, event = values[complete], time[complete], event[complete]
    if len(x) < _FEWEST:
        raise ModelError(f"a nomogram needs at least {_FEWEST} patients without missing values")
    mean, sd = x.mean(axis=0), x.std(axis=0)
    flat = [line.label for line, s in zip(lines, sd, strict=True) if s <= 0]
    if flat:
        raise ModelError(f"{', '.join(flat)} is the same in all patients")
    scaled = (x - mean) / sd
    fit = fit_cox(scaled, time, event, _PENALTY)
    moments = np.unique(time[event])
    hazard = baseline_hazard(scaled, time, event, fit.beta, moments).hazard
    # From the hazard at the mean to that where every predictor is 0.
    at_zero = hazard * float(np.exp(-(fit.beta * mean / sd).sum()))
    predictors = tuple(
        _predictor(line, float(b / s), x[:, i])
        for i, (line, b, s) in enumerate(zip(lines, fit.beta, sd, strict=True))
    )
    return Nomogram(
        NomogramFile(
            endpoint=endpoint,
            predictors=predictors,
            times=tuple(moments.tolist()),
            hazard=tuple(at_zero.tolist()),
            months=months,
        )
    )


def _predictor(line: Line, beta: float, seen: FloatArray) -> Predictor:
    low, high = np.percentile(seen, _ENDS)
    if line.levels:
        low, high = min(line.levels.values()), max(line.levels.values())
    elif low == high:
        low, high = seen.min(), seen.max()
    return Predictor(
        name=line.name,
        label=line.label,
        unit=line.unit,
        beta=beta,
        low=float(low),
        high=float(high),
        levels=dict(line.levels),
    )
