"""The frozen protocol: repeated five-fold cross-validation, everything else inside the folds.

Folds are stratified by event and tertile of time. Small tables are divided anew for each of five seeds,
large ones once. Each model sees the training folds alone and tunes itself on inner folds of them. Brier
scores are integrated between the 10th and the 80th percentile of the event times, at 30 points; Uno's C is
taken up to the last of them. Censoring distributions are those of the training folds.

On two cores that other programs use, set ``OMP_NUM_THREADS=1``: waiting threads cost more than they bring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.evaluation.metrics import BoolArray
from inference.evaluation.splits import stratified_folds
from inference.evaluation.survival.brier import brier_score, integrated_brier_score
from inference.evaluation.survival.concordance import harrell_c, uno_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.evaluation.tables.comparators import ModelFactory
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.results import FloatArray

FOLDS = 5
SEEDS = (0, 1, 2, 3, 4)
LARGE = 1000
"""Patients from which one division into folds is enough."""
FIRST_QUANTILE, LAST_QUANTILE, POINTS = 0.1, 0.8, 30
MEASURES: Mapping[str, str] = {"c": "Harrell's C", "uno_c": "Uno's C", "ibs": "integrated Brier score"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table of n patients with outcomes.

    Attributes
    ----------
    covariates : DataFrame, n rows
    time : array, (n,)
    event : array of bool, (n,)
    """

    name: str
    covariates: pd.DataFrame
    time: FloatArray
    event: BoolArray


@dataclass(frozen=True, slots=True)
class Scores:
    """Figures of one model on one table, one for each fold of each seed: measure -> (folds,)."""

    of: Mapping[str, FloatArray]

    def mean(self, measure: str) -> float:
        """Mean over folds."""
        return float(self.of[measure].mean())

    def sd(self, measure: str) -> float:
        """Return the standard deviation over folds."""
        return float(self.of[measure].std())


@dataclass(frozen=True, slots=True)
class Comparison:
    """All models on one table, on the same folds."""

    table: str
    patients: int
    events: int
    seeds: tuple[int, ...]
    scores: Mapping[str, Scores]

    def difference(self, model: str, reference: str, measure: str) -> tuple[float, float]:
        """Return mean and standard error of a paired difference over folds.

        Training folds overlap, so that the naive standard error is too small: it is corrected by the
        share of held-out patients (Nadeau & Bengio 2003, Machine Learning 52:239, equation 8).
        """
        gaps = self.scores[model].of[measure] - self.scores[reference].of[measure]
        spread = float(gaps.var(ddof=1)) if len(gaps) > 1 else float("nan")
        return float(gaps.mean()), float(np.sqrt(spread * (1.0 / len(gaps) + 1.0 / (FOLDS - 1))))


def seeds_for(patients: int) -> tuple[int, ...]:
    """Return the seeds of the protocol for a table of so many patients."""
    return SEEDS if patients < LARGE else SEEDS[:1]


def compare(
    table: Table, models: Mapping[str, ModelFactory], seeds: tuple[int, ...], progress: Progress
) -> Comparison:
    """Cross-validate models on a table.

    Raises
    ------
    ValueError
        A fold has nothing to compare, as where there are very few events.
    """
    first, last = np.quantile(table.time[table.event], [FIRST_QUANTILE, LAST_QUANTILE])
    times = np.linspace(first, last, POINTS)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
    done, total = 0, len(seeds) * FOLDS * len(models)
    for seed in seeds:
        rng = RandomStreams(seed).derive("cross-validation of a table")
        for fold, held_out in enumerate(stratified_folds(table.time, table.event, FOLDS, rng)):
            for name, factory in models.items():
                progress(f"{table.name}: {name}, seed {seed}, fold {fold + 1}", done / total)
                found[name].append(_fold(table, held_out, factory, seed * FOLDS + fold, times))
                done += 1
    progress(table.name, 1.0)
    scores = {
        name: Scores(dict(zip(MEASURES, np.array(rows).T, strict=True))) for name, rows in found.items()
    }
    return Comparison(table.name, len(table.time), int(table.event.sum()), seeds, scores)


def _fold(
    table: Table, held_out: np.ndarray, factory: ModelFactory, seed: int, times: FloatArray
) -> tuple[float, float, float]:
    keep = np.setdiff1d(np.arange(len(table.time)), held_out)
    train = FollowUp(table.time[keep], table.event[keep])
    test = FollowUp(table.time[held_out], table.event[held_out])
    # An index of its own, so that no model can find rows again by it.
    model = factory(seed).fit(table.covariates.iloc[keep].reset_index(drop=True), train.time, train.event)
    risk, survival = model.predict(table.covariates.iloc[held_out].reset_index(drop=True), times)
    brier = brier_score(train, test, survival, times)
    return (
        harrell_c(test, risk),
        uno_c(train, test, risk, float(times[-1])),
        integrated_brier_score(brier, times),
    )
