"""Models that the protocol's survival model is measured against on tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.errors import InferenceError
from inference.evaluation.metrics import BoolArray, kaplan_meier
from inference.evaluation.splits import stratified_folds
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.cox_fit import baseline_hazard, cross_validated_likelihood, fit_cox

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
FOREST_LEAVES = (5, 15, 30)
FOREST_TREES, TUNING_TREES = 500, 100
FOREST_TIMES = 150
"""Distinct times of a forest: each leaf of each tree keeps a curve over all of them."""
INNER_FOLDS = 5


class TableModel(Protocol):
    """A survival model of a table."""

    def fit(self, table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike) -> TableModel:
        """Fit to n patients, tuning on them alone; returns itself."""
        ...

    def predict(self, table: pd.DataFrame, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return risk (n,), higher for an earlier event, and survival (n, m) at `times` (m,)."""
        ...


ModelFactory = Callable[[int], TableModel]
"""Makes an unfitted model from a seed."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How a table becomes standardised numbers: indicator columns, missing numbers at the median.

    Attributes
    ----------
    medians : mapping
        Number column -> median.
    categories : mapping
        Word column -> its categories but the first.
    mean, scale : array, (p,)
    """

    medians: Mapping[str, float]
    categories: Mapping[str, tuple[str, ...]]
    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, table: pd.DataFrame) -> Coding:
        """Learn the coding from the training patients."""
        names = [str(c) for c in table]
        medians = {c: _median(table[c]) for c in names if pd.api.types.is_numeric_dtype(table[c])}
        words = [c for c in names if c not in medians]
        categories = {c: tuple(sorted(set(table[c].dropna().astype(str)))[1:]) for c in words}
        raw = _coded(table, medians, categories)
        scale = raw.std(axis=0)
        return cls(medians, categories, raw.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def __call__(self, table: pd.DataFrame) -> FloatArray:
        """Code patients, (n, p)."""
        return np.asarray((_coded(table, self.medians, self.categories) - self.mean) / self.scale)


def _median(column: pd.Series) -> float:
    known = column.dropna()
    return float(known.median()) if len(known) else 0.0


def _coded(
    table: pd.DataFrame, medians: Mapping[str, float], categories: Mapping[str, tuple[str, ...]]
) -> FloatArray:
    numbers = [table[c].astype(float).fillna(m).to_numpy() for c, m in medians.items()]
    words = [
        (table[c].astype(str) == k).to_numpy(dtype=np.float64) for c, ks in categories.items() for k in ks
    ]
    return np.stack([*numbers, *words], axis=1) if numbers or words else np.zeros((len(table), 0))


class CoxRidge:
    """Cox's model with a ridge penalty that inner folds choose, and Breslow's baseline hazard."""

    def __init__(self, seed: int) -> None:
        self._streams = RandomStreams(seed)

    def fit(self, table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike) -> CoxRidge:
        """Fit; see `TableModel`."""
        self._coding = Coding.of(table)
        self._z = self._coding(table)
        self._time, self._event = np.asarray(time, dtype=np.float64), np.asarray(event, dtype=np.bool_)
        folds = stratified_folds(self._time, self._event, INNER_FOLDS, self._streams.derive("cox-ridge"))
        scores = [cross_validated_likelihood(self._z, self._time, self._event, a, folds) for a in PENALTIES]
        self._beta = fit_cox(self._z, self._time, self._event, PENALTIES[int(np.argmax(scores))]).beta
        return self

    def predict(self, table: pd.DataFrame, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Predict; see `TableModel`."""
        at = np.asarray(times, dtype=np.float64)
        base = baseline_hazard(self._z, self._time, self._event, self._beta, at)
        risk = self._coding(table) @ self._beta
        return risk, np.exp(-np.exp(risk)[:, None] * base.hazard[None, :])


class Forest:
    """Random survival forest of scikit-survival, whose leaf size inner folds choose.

    Raises
    ------
    InferenceError
        scikit-survival is not installed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def fit(self, table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike) -> Forest:
        """Fit; see `TableModel`."""
        self._coding = Coding.of(table)
        z = self._coding(table)
        follow_up = FollowUp(np.asarray(time, dtype=np.float64), np.asarray(event))
        rng = RandomStreams(self._seed).derive("forest")
        folds = stratified_folds(follow_up.time, follow_up.event, INNER_FOLDS, rng)
        held_out = folds[0]
        keep = np.setdiff1d(np.arange(len(z)), held_out)

        def score(leaf: int) -> float:
            forest = self._grown(z[keep], follow_up.of(keep), leaf, TUNING_TREES)
            return harrell_c(follow_up.of(held_out), forest.predict(z[held_out]))

        leaf = max(FOREST_LEAVES, key=score)
        self._forest = self._grown(z, follow_up, leaf, FOREST_TREES)
        return self

    def _grown(self, z: FloatArray, follow_up: FollowUp, leaf: int, trees: int) -> Any:
        ensemble = _scikit_survival_ensemble()
        time = _coarse(follow_up.time, follow_up.event)
        outcome = np.array(
            list(zip(follow_up.event, time, strict=True)), dtype=[("event", bool), ("time", float)]
        )
        forest = ensemble.RandomSurvivalForest(
            n_estimators=trees, min_samples_leaf=leaf, max_features="sqrt", random_state=self._seed
        )
        return forest.fit(z, outcome)

    def predict(self, table: pd.DataFrame, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Predict; see `TableModel`."""
        z = self._coding(table)
        curves = self._forest.predict_survival_function(z, return_array=True)
        last = np.searchsorted(self._forest.unique_times_, np.asarray(times), side="right") - 1
        survival = np.where(last[None, :] < 0, 1.0, curves[:, np.maximum(last, 0)])
        return np.asarray(self._forest.predict(z), dtype=np.float64), survival


class NoCovariates:
    """The Kaplan-Meier curve of the training patients for everybody: what covariates must beat."""

    def __init__(self, seed: int) -> None:
        del seed

    def fit(self, table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike) -> NoCovariates:
        """Fit; see `TableModel`."""
        del table
        self._curve = kaplan_meier(np.asarray(time, dtype=np.float64), np.asarray(event, dtype=np.bool_))
        return self

    def predict(self, table: pd.DataFrame, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Predict; see `TableModel`."""
        survival = self._curve(np.asarray(times, dtype=np.float64))
        return np.zeros(len(table)), np.tile(survival, (len(table), 1))


def _coarse(time: FloatArray, event: BoolArray) -> FloatArray:
    """Move times up to the next of at most `FOREST_TIMES` quantiles of the event times."""
    if len(np.unique(time)) <= FOREST_TIMES:
        return time
    nodes = np.unique(np.quantile(time[event], np.linspace(0, 1, FOREST_TIMES)))
    nodes = np.append(nodes, max(float(time.max()), nodes[-1]))
    return np.asarray(nodes[np.searchsorted(nodes, time, side="left")])


def _scikit_survival_ensemble() -> Any:
    try:
        from sksurv import ensemble
    except ImportError as error:
        raise InferenceError(
            "the random survival forest needs scikit-survival: pip install 'hepatocast[evaluation]'"
        ) from error
    return ensemble


COMPARATORS: Mapping[str, ModelFactory] = MappingProxyType(
    {"cox-ridge": CoxRidge, "forest": Forest, "no-covariates": NoCovariates}
)
"""Name on the command line -> model."""
