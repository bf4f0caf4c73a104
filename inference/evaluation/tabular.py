"""The protocol's survival model on a table alone, to be compared with Cox models and forests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.evaluation.splits import stratified_folds
from inference.models.survival.hazards import HazardGrid, grid_of_events
from inference.models.survival.network import NetworkSize, SurvivalNetwork, as_batch
from inference.models.survival.skip import Skip
from inference.models.survival.terms import Column
from inference.models.survival.tokens import Layout, Tokens, column_counts, table_tokens
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.survival.linear import Outcomes
from inference.training.survival.networks import (
    Choice,
    FoldTargets,
    NetworkSettings,
    Target,
    changes,
    choose,
    network_effects,
    profiled_log_rates,
    train_networks,
)
from inference.training.survival.skip import FittedSkip, fit_skip, refit

INNER_FOLDS = 5
INNER_FOLDS_OF_LARGE = 3
LARGE = 2000
"""Patients from which three inner folds are enough."""
NETWORK_FOLDS = 3
"""Inner folds on which networks are tried; each takes as long as a network of the ensemble."""
INTERVALS = 60
LEAST_FOR_NETWORK = 20
"""Events below which no network is tried: inner folds would hold a handful each."""
SMALL_NETWORKS = NetworkSettings(size=NetworkSize(width=16, heads=2), steps=120, batch=128, networks=4)
"""A table has no images to read: small networks are enough, and five inner trainings take seconds."""


@dataclass(frozen=True, slots=True)
class TabularSettings:
    """How the model is fitted to a table.

    Attributes
    ----------
    nodes : tuple of float
        Times that must be nodes of the grid, in the unit of the table; 12, 24 and 36 where it is months.
    """

    intervals: int = INTERVALS
    nodes: tuple[float, ...] = ()
    networks: NetworkSettings = SMALL_NETWORKS


class NotFitted(ValueError):
    """The model was asked before it was fitted."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    columns: tuple[str, ...]
    numeric: frozenset[str]
    grid: HazardGrid
    log_rates: FloatArray
    skip: Skip
    choice: Choice
    networks: tuple[SurvivalNetwork, ...]


class TabularSurvivalModel:
    """The protocol's survival model of a table: a linear part and a network; see `survival_model`."""

    def __init__(self, seed: int, settings: TabularSettings) -> None:
        self._streams = RandomStreams(seed)
        self._settings = settings
        self._fitted: _Fitted | None = None

    @property
    def network_share(self) -> float:
        """Share of the network that inner folds kept, 0 to 1.

        Raises
        ------
        NotFitted
        """
        return self._needed().choice.shares[0]

    def fit(self, table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike) -> TabularSurvivalModel:
        """Fit to n patients; everything is tuned on inner folds of them. Returns itself.

        Parameters
        ----------
        table : DataFrame, n rows
            Numbers or booleans, and words or categories; any of them may be missing.
        time : array, (n,)
            In any unit; not negative.
        event : array, (n,)
            Whether the event was seen.

        Raises
        ------
        ValueError
            Another number of rows, a time that is missing or negative, no event.
        """
        t, e = _checked(table, time, event)
        numeric = frozenset(str(c) for c in table if _is_number(table[c]))
        names = tuple(str(c) for c in table)
        columns = _columns(table, names, numeric)
        outcomes = Outcomes.on(grid_of_events(t, e, self._settings.intervals, self._settings.nodes), t, e)
        count = INNER_FOLDS if len(t) < LARGE else INNER_FOLDS_OF_LARGE
        folds = stratified_folds(t, e, count, self._streams.derive("inner folds"))
        fitted = fit_skip(columns, outcomes, folds)
        choice, networks, log_rates = self._network(columns, outcomes, fitted, folds)
        self._fitted = _Fitted(names, numeric, outcomes.grid, log_rates, fitted.skip, choice, networks)
        return self

    def _network(
        self,
        columns: dict[str, Column],
        outcomes: Outcomes,
        fitted: FittedSkip,
        folds: Sequence[np.ndarray],
    ) -> tuple[Choice, tuple[SurvivalNetwork, ...], FloatArray]:
        everybody, skip = np.ones(len(outcomes), dtype=np.bool_), fitted.skip
        target = Target(outcomes, everybody, skip.predictor(columns, len(outcomes)))
        choice = Choice(0, (0.0,), (0.0,))
        networks: tuple[SurvivalNetwork, ...] = ()
        if skip.scales and outcomes.event.sum() >= LEAST_FOR_NETWORK:
            layout, tokens = _tokens(skip, columns, len(outcomes))
            tried = [_fold(fitted, columns, outcomes, h) for h in folds[:NETWORK_FOLDS]]
            settings = self._settings.networks
            choice = choose(layout, tokens, tried, settings, self._streams)
            networks = train_networks(layout, tokens, [target], choice, settings, self._streams)
        change = _mean_change(skip, columns, len(outcomes), choice, networks, len(outcomes.grid))
        return choice, networks, profiled_log_rates(target, change)

    def predict(self, table: pd.DataFrame, times: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Predict n patients.

        Parameters
        ----------
        table : DataFrame, n rows
            With the columns of the training table, in any order.
        times : array, (m,)
            In the unit of the training times.

        Returns
        -------
        risk : array, (n,)
            Higher for an earlier event: log of the cumulative hazard at the last but one node of the grid.
        survival : array, (n, m)

        Raises
        ------
        NotFitted
        ValueError
            A column is absent.
        """
        fitted = self._needed()
        columns = _columns(table, fitted.columns, fitted.numeric)
        change = _mean_change(
            fitted.skip, columns, len(table), fitted.choice, fitted.networks, len(fitted.grid)
        )
        linear = fitted.skip.predictor(columns, len(table))
        rates = np.exp(np.clip(linear[:, None] + change, -30.0, 30.0) + fitted.log_rates)
        at = np.asarray(times, dtype=np.float64)
        survival = np.exp(-rates @ fitted.grid.exposure(at).T)
        middle = fitted.grid.exposure(
            fitted.grid.nodes[-2:-1] if len(fitted.grid) > 1 else fitted.grid.nodes[1:]
        )
        return np.log(rates @ middle[0]), survival

    def _needed(self) -> _Fitted:
        if self._fitted is None:
            raise NotFitted("the survival model was not fitted yet")
        return self._fitted


def _fold(
    fitted: FittedSkip, columns: dict[str, Column], outcomes: Outcomes, held_out: np.ndarray
) -> FoldTargets:
    everybody = np.ones(len(outcomes), dtype=np.bool_)
    weights = everybody.astype(np.float64)
    weights[held_out] = 0.0
    predictor = refit(fitted, columns, outcomes, weights).predictor(columns, len(outcomes))
    return FoldTargets(np.flatnonzero(weights), held_out, [Target(outcomes, everybody, predictor)])


def _tokens(skip: Skip, columns: dict[str, Column], patients: int) -> tuple[Layout, Tokens]:
    """Terms on the scale that suits best, as tokens of the network."""
    terms = skip.scales[0].terms
    matrix = terms(columns, patients)
    variables = len(terms.columns)
    return Layout(columns=column_counts(matrix, variables)), table_tokens(matrix, variables)


def _mean_change(
    skip: Skip,
    columns: dict[str, Column],
    patients: int,
    choice: Choice,
    networks: Sequence[SurvivalNetwork],
    intervals: int,
) -> FloatArray:
    """Return what the networks add to log hazards, (n, J)."""
    if not networks:
        return np.zeros((patients, intervals))
    batch = as_batch(_tokens(skip, columns, patients)[1])
    effects = np.mean([network_effects(network, batch)[:, 0] for network in networks], axis=0)
    return choice.shares[0] * changes(effects, intervals)


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column))


def _columns(table: pd.DataFrame, names: Sequence[str], numeric: frozenset[str]) -> dict[str, Column]:
    present = {str(c): table[c] for c in table}
    absent = [name for name in names if name not in present]
    if absent:
        raise ValueError(f"the table lacks the column {absent[0]}")
    return {
        name: present[name].to_numpy(dtype=np.float64, na_value=np.nan)
        if name in numeric
        else [None if missing else str(word) for word, missing in _words(present[name])]
        for name in names
    }


def _words(column: pd.Series) -> list[tuple[object, bool]]:
    return list(zip(column.tolist(), column.isna().tolist(), strict=True))


def _checked(
    table: pd.DataFrame, time: npt.ArrayLike, event: npt.ArrayLike
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    t, e = np.asarray(time, dtype=np.float64), np.asarray(event)
    if t.ndim != 1 or t.shape != e.shape or len(t) != len(table):
        raise ValueError("there must be one time and one event for each row of the table")
    if not np.isfinite(t).all() or (t < 0).any():
        raise ValueError("a time of follow-up is missing, infinite or negative")
    return t, e.astype(np.bool_)


def survival_model(seed: int, settings: TabularSettings | None = None) -> TabularSurvivalModel:
    """Return the protocol's survival model of a table, not fitted yet.

    Parameters
    ----------
    seed : int
        Of everything random. The same seed and table give the same predictions.
    settings : TabularSettings, optional
        Such as nodes of the grid; nothing in it is chosen by looking at a data set.
    """
    return TabularSurvivalModel(seed, settings or TabularSettings())
