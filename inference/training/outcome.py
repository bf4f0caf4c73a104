"""Fit the outcome model: cross-fitted ridge means, analogues, copula, conformal factor, and its figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from inference.errors import TrainingDataError
from inference.models.outcome.design import Standardiser, hats, own_design, shared_design
from inference.models.outcome.doses import doses_given
from inference.models.outcome.model import FLOOR, OutcomeModel, OutcomeSettings, nearest
from inference.results import FloatArray
from inference.settings import Frozen, Regimen
from inference.training.cohort import Cohort
from inference.training.features import PatientTable

_log = logging.getLogger(__name__)

PENALTIES = (30.0, 300.0, 3000.0, 30000.0)
OWN_PENALTIES = (10.0, 100.0, 1000.0, 10000.0)
FOLDS = 5
COVERAGE = 0.80
_TAIL_Z = 1.2815515655446004


class OutcomeTraining(Frozen):
    """How the outcome model is fitted."""

    seed: int = 0
    neighbours_share: float = 0.12
    fewest_neighbours: int = 20
    most_neighbours: int = 120


@dataclass(frozen=True, slots=True)
class Rows:
    """One row a patient, regimen and month; n rows.

    Attributes
    ----------
    patient, regimen, knot : array of int, (n,)
        Places in the tables of patients, regimens and months.
    doses : array, (n, 7)
    value : array, (n, 3)
        Log ratios, see `inference.models.outcome.model.TARGETS`.
    new_lesions : array, (n,)
    response : array, (n,)
        1 for CR or PR by mRECIST, 0 for SD or PD, NaN for NE.
    """

    patient: np.ndarray
    regimen: np.ndarray
    knot: np.ndarray
    months: FloatArray
    doses: FloatArray
    value: FloatArray
    new_lesions: FloatArray
    response: FloatArray

    def take(self, chosen: np.ndarray) -> Rows:
        """Return some rows."""
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def rows_of(
    cohort: Cohort,
    table: PatientTable,
    regimens: Mapping[str, Regimen],
    names: tuple[str, ...],
    months: tuple[float, ...],
) -> Rows:
    """Return the outcomes of the patients of a table.

    Raises
    ------
    TrainingDataError
        There is none.
    """
    outcomes = cohort.outcomes
    place = {p: i for i, p in enumerate(table.ids)}
    known = outcomes["patient_id"].isin(list(place)) & outcomes["viable_ml"].notna()
    known &= outcomes["regimen_id"].isin(names)
    used = outcomes[known].fillna({"necrosis_ml": 0.0, "lipiodol_ml": 0.0, "new_lesions": 0, "mrecist": "NE"})
    if used.empty:
        raise TrainingDataError("the cohort has no outcome of a patient with viable tumour")
    patient = np.array([place[p] for p in used["patient_id"]], dtype=np.intp)
    at = used["months"].to_numpy(dtype=np.float64)
    base = table.volumes[patient]
    volumes = used[["viable_ml", "necrosis_ml", "lipiodol_ml"]].to_numpy(dtype=np.float64)
    denominators = np.stack([base[:, 0], base.sum(axis=1), base.sum(axis=1)], axis=1)
    seen = used["mrecist"].astype(str)
    response = np.where(seen.isin(["CR", "PR"]), 1.0, np.where(seen.isin(["SD", "PD"]), 0.0, np.nan))
    ids = used["regimen_id"].astype(str).tolist()
    return Rows(
        patient,
        np.array([names.index(r) for r in ids], dtype=np.intp),
        np.array([int(np.argmin(np.abs(np.array(months) - m))) for m in at], dtype=np.intp),
        at,
        np.array([doses_given(regimens[r], m) for r, m in zip(ids, at, strict=True)]),
        np.log(np.maximum(volumes / denominators, 0.0) + FLOOR),
        used["new_lesions"].to_numpy(dtype=np.float64),
        np.asarray(response, dtype=np.float64),
    )


def covered(cohort: Cohort, regimens: Mapping[str, Regimen]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Return the regimens of a cohort that have a schedule, and its months.

    Raises
    ------
    TrainingDataError
        No regimen of the cohort has a schedule.
    """
    names = tuple(sorted(set(cohort.outcomes["regimen_id"].astype(str)) & set(regimens)))
    if not names:
        raise TrainingDataError("no regimen of the cohort is in the table of regimens")
    rounded = cohort.outcomes.loc[cohort.outcomes["months"] > 0, "months"].round(0).clip(lower=1.0)
    counts = rounded.value_counts()
    months = tuple(
        sorted(
            m
            for m, n in zip(counts.index.to_numpy(float).tolist(), counts.to_list(), strict=True)
            if n >= 0.02 * len(rounded)
        )
    )
    return names, months


# ------------------------------------------------------------------ ridge


@dataclass(frozen=True, slots=True)
class _Gram:
    """Sums that a ridge is solved from."""

    xx: FloatArray
    xy: FloatArray
    x: FloatArray
    y: FloatArray
    n: float

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray) -> _Gram:
        return cls(x.T @ x, x.T @ y, x.sum(axis=0), y.sum(axis=0), float(len(x)))

    def __add__(self, other: _Gram) -> _Gram:
        return _Gram(
            self.xx + other.xx, self.xy + other.xy, self.x + other.x, self.y + other.y, self.n + other.n
        )

    def __sub__(self, other: _Gram) -> _Gram:
        return _Gram(
            self.xx - other.xx, self.xy - other.xy, self.x - other.x, self.y - other.y, self.n - other.n
        )

    def ridge(self, penalty: float) -> tuple[FloatArray, FloatArray]:
        """Return intercept and slopes; the intercept is not penalised."""
        mean_x, mean_y = self.x / self.n, self.y / self.n
        xx = self.xx - self.n * np.outer(mean_x, mean_x)
        xy = self.xy - self.n * np.outer(mean_x, mean_y)
        slope = np.linalg.solve(xx + penalty * np.eye(len(xx)), xy)
        return mean_y - mean_x @ slope, np.asarray(slope)


def fold_of(patients: int, seed: int) -> np.ndarray:
    """Return the fold of each patient."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.permutation(patients) % FOLDS)


@dataclass(frozen=True, slots=True)
class _Means:
    intercept: FloatArray
    shared: FloatArray
    own: FloatArray
    out_of_fold: FloatArray


def _fit_means(
    x: FloatArray, rows: Rows, basis: FloatArray, fold: np.ndarray, regimens: int, scale: FloatArray
) -> _Means:
    """Fit shared part and parts of regimens with cross-validated penalties."""
    shared = shared_design(x, rows.doses, rows.months)
    own = own_design(x, basis)
    y = rows.value / scale
    parts = [_Gram.of(shared[fold == k], y[fold == k]) for k in range(FOLDS)]
    whole = sum(parts[1:], parts[0])
    first = {p: [(whole - part).ridge(p) for part in parts] for p in PENALTIES}
    loss = {p: _held_loss(fits, shared, y, fold) for p, fits in first.items()}
    penalty = min(loss, key=lambda p: loss[p])
    rest = np.empty_like(y)
    best: tuple[float, float, FloatArray] | None = None
    for own_penalty in OWN_PENALTIES:
        for k, (intercept, slope) in enumerate(first[penalty]):
            residual = y - intercept - shared @ slope
            fitted = _own(own, residual, rows.regimen, fold != k, regimens, own_penalty)
            held = fold == k
            rest[held] = residual[held] - np.einsum("np,npt->nt", own[held], fitted[rows.regimen[held]])
        figure = float((rest**2).mean())
        if best is None or figure < best[0]:
            best = (figure, own_penalty, rest.copy())
    assert best is not None  # the table of penalties is not empty
    intercept, slope = whole.ridge(penalty)
    residual = y - intercept - shared @ slope
    everyone = np.ones(len(y), dtype=bool)
    coefficients = _own(own, residual, rows.regimen, everyone, regimens, best[1])
    _log.info("ridge penalties %g and %g, cross-fitted error %.3f", penalty, best[1], best[0])
    return _Means(intercept * scale, slope * scale, coefficients * scale, (y - best[2]) * scale)


def _held_loss(
    fits: list[tuple[FloatArray, FloatArray]], design: FloatArray, y: FloatArray, fold: np.ndarray
) -> float:
    total = 0.0
    for k, (intercept, slope) in enumerate(fits):
        held = fold == k
        total += float(((y[held] - intercept - design[held] @ slope) ** 2).sum())
    return total


def _own(
    design: FloatArray,
    residual: FloatArray,
    regimen: np.ndarray,
    used: np.ndarray,
    count: int,
    penalty: float,
) -> FloatArray:
    found = np.zeros((count, design.shape[1], residual.shape[1]))
    for r in range(count):
        chosen = used & (regimen == r)
        if chosen.any():
            x, y = design[chosen], residual[chosen]
            found[r] = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return found


# ------------------------------------------------------------------ new lesions


def _fit_rate(
    x: FloatArray, rows: Rows, basis: FloatArray, regimens: int, penalty: float = 30.0
) -> tuple[FloatArray, FloatArray]:
    """Poisson regression of the number of new lesions by Newton's method, with a level for each regimen."""
    knots = basis.shape[1]
    level = np.zeros((len(x), regimens * knots))
    for k in range(knots):
        level[np.arange(len(x)), rows.regimen * knots + k] = basis[:, k]
    design = np.concatenate([level, x], axis=1)
    ridge = np.concatenate([np.full(regimens * knots, 0.3), np.full(x.shape[1], penalty)])
    start = np.log(max(rows.new_lesions.mean(), 1e-3))
    beta = np.zeros(design.shape[1])
    beta[: regimens * knots] = start
    centre = beta.copy()
    for _ in range(12):
        rate = np.exp(np.clip(design @ beta, -12, 4))
        gradient = design.T @ (rate - rows.new_lesions) + ridge * (beta - centre)
        hessian = (design * rate[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        beta = beta - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-9))
        if float(np.abs(step).max()) < 1e-4:
            break
    # What has appeared does not vanish: the level never falls from one month to the next.
    levels = np.maximum.accumulate(beta[: regimens * knots].reshape(regimens, knots), axis=1)
    return levels, beta[regimens * knots :]


# ------------------------------------------------------------------ the whole model


def fit_outcome_model(
    cohort: Cohort, table: PatientTable, regimens: Mapping[str, Regimen], settings: OutcomeTraining
) -> OutcomeModel:
    """Fit the outcome model on the patients of a table.

    The arrays of the model: ``mean``, ``scale``, ``flagged`` of the features; ``shared_intercept``,
    ``shared`` and ``own`` of the means; ``rate_level`` and ``rate`` of new lesions; ``row_mean``,
    ``row_value``, ``row_regimen``, ``row_month`` of the analogues; ``mixing``, the Cholesky factor of
    the correlation of the targets; ``lesion_slope``.

    Raises
    ------
    TrainingDataError
        There is nothing to learn from.
    """
    names, months = covered(cohort, regimens)
    rows = rows_of(cohort, table, regimens, names, months)
    standardiser = Standardiser.of(table.features)
    x = standardiser.matrix(table.features)[rows.patient]
    basis = hats(rows.months, np.array(months))
    fold = fold_of(len(table.ids), settings.seed)[rows.patient]
    scale = np.maximum(rows.value.std(axis=0), 0.1)
    means = _fit_means(x, rows, basis, fold, len(names), scale)
    level, rate = _fit_rate(x, rows, basis, len(names))
    per_cell = len(rows.patient) / (len(names) * len(months))
    count = int(
        np.clip(settings.neighbours_share * per_cell, settings.fewest_neighbours, settings.most_neighbours)
    )
    arrays = {
        "mean": standardiser.mean,
        "scale": standardiser.scale,
        "flagged": standardiser.flagged,
        "shared_intercept": means.intercept,
        "shared": means.shared,
        "own": means.own,
        "rate_level": level,
        "rate": rate,
        "row_mean": means.out_of_fold,
        "row_value": rows.value,
        "row_regimen": rows.regimen.astype(np.float64),
        "row_month": rows.knot.astype(np.float64),
        "mixing": np.eye(4),
        "lesion_slope": np.zeros(1),
    }
    slope, lesion_sd = _lesion_terms(table)
    arrays["lesion_slope"] = np.array([slope])
    first = OutcomeSettings(
        names=standardiser.names,
        regimens=names,
        months=months,
        spread=1.0,
        neighbours=count,
        month_length=1.0,
        new_lesion_log_ml=_new_lesion_terms(table),
        lesion_sd=lesion_sd,
    )
    model = OutcomeModel(first, arrays)
    return _with_copula(model, rows, x, settings)


def _with_copula(model: OutcomeModel, rows: Rows, x: FloatArray, settings: OutcomeTraining) -> OutcomeModel:
    """Estimate correlation, its length over months and the conformal factor from cross-fitted ranks."""
    z = normal_ranks(model, rows, settings.seed)
    rate = np.exp(
        np.clip(
            (
                hats(rows.months, np.array(model.settings.months)) * model.arrays["rate_level"][rows.regimen]
            ).sum(axis=1)
            + x @ model.arrays["rate"],
            -12,
            4,
        )
    )
    z4 = np.concatenate([z, _count_ranks(rows.new_lesions, rate, settings.seed)[:, None]], axis=1)
    correlation = np.corrcoef(z4, rowvar=False)
    mixing = np.linalg.cholesky(0.98 * np.nan_to_num(correlation) + 0.02 * np.eye(4))
    inside = np.quantile(np.abs(z[:, 0]), COVERAGE + 0.01)
    spread = float(np.clip(inside / _TAIL_Z, 0.6, 1.8))
    length = _month_length(z[:, 0], rows)
    arrays = {**model.arrays, "mixing": mixing}
    updated = model.settings.model_copy(update={"spread": spread, "month_length": length})
    return OutcomeModel(updated, arrays)


def normal_ranks(model: OutcomeModel, rows: Rows, seed: int, most: int = 6000) -> FloatArray:
    """Return the normal scores of outcomes within the distributions predicted for them, (n, 3).

    Rows beyond `most` are left out (NaN): a few thousand determine a correlation.
    """
    rng = np.random.default_rng(seed + 1)
    z = np.full(rows.value.shape, np.nan)
    a = model.arrays
    patients = rng.permutation(np.unique(rows.patient))
    per_patient = max(len(rows.patient) / len(patients), 1.0)
    kept = np.isin(rows.patient, patients[: max(int(most / per_patient), 1)])
    for i in np.flatnonzero(kept):
        others = (a["row_month"] == rows.knot[i]) & (a["row_regimen"] == rows.regimen[i])
        if others.sum() < 30:
            others = a["row_month"] == rows.knot[i]
        others = others.copy()
        others[rows.patient == rows.patient[i]] = False
        if others.sum() < 3:
            continue
        for t in range(3):
            values, weights = nearest(
                a["row_mean"][others, t],
                a["row_value"][others, t],
                float(a["row_mean"][i, t]),
                model.settings.neighbours,
            )
            z[i, t] = _rank(values, weights, float(rows.value[i, t]), rng)
    usable = np.isfinite(z).all(axis=1)
    if not usable.any():
        return np.asarray(rng.standard_normal(z.shape))
    z[~usable] = rng.standard_normal((int((~usable).sum()), 3))
    return z


def _rank(values: FloatArray, weights: FloatArray, value: float, rng: np.random.Generator) -> float:
    total = weights.sum()
    below = float(weights[values < value - 1e-4].sum() / total)
    equal = float(weights[np.abs(values - value) <= 1e-4].sum() / total)
    u = below + equal * float(rng.uniform())
    n = len(values)
    return float(ndtri(np.clip(u, 0.5 / n, 1.0 - 0.5 / n)))


def _count_ranks(counts: FloatArray, rate: FloatArray, seed: int) -> FloatArray:
    from scipy.stats import poisson

    rng = np.random.default_rng(seed + 2)
    low, high = poisson.cdf(counts - 1, rate), poisson.cdf(counts, rate)
    u = low + (high - low) * rng.uniform(size=len(counts))
    return np.asarray(ndtri(np.clip(u, 1e-4, 1 - 1e-4)))


def _month_length(z: FloatArray, rows: Rows) -> float:
    """Return the length over log months at which the correlation of one patient's ranks has fallen to 1/e."""
    frame = pd.DataFrame({"p": rows.patient, "r": rows.regimen, "k": rows.knot, "z": z})
    wide = frame.pivot_table(index=["p", "r"], columns="k", values="z")
    months = np.array([rows.months[rows.knot == k].mean() for k in wide.columns])
    correlation = wide.corr().to_numpy()
    lengths = []
    for i in range(len(months)):
        for j in range(i + 1, len(months)):
            if np.isfinite(correlation[i, j]):
                distance = abs(np.log1p(months[i]) - np.log1p(months[j]))
                lengths.append(-distance / np.log(np.clip(correlation[i, j], 0.05, 0.995)))
    return float(np.clip(np.median(lengths), 0.2, 20.0)) if lengths else 2.0


def _lesion_terms(table: PatientTable) -> tuple[float, float]:
    """Return slope on relative log size and deviation of lesions' log ratios from their patient's."""
    if len(table.lesions) < 10:
        return 0.0, 0.3
    size = np.array([row.log_size for row in table.lesions])
    change = np.array([row.log_ratio - row.patient_log_ratio for row in table.lesions])
    slope = float((size * change).sum() / ((size**2).sum() + 10.0))
    return slope, float(np.clip((change - slope * size).std(), 0.05, 1.5))


def _new_lesion_terms(table: PatientTable) -> tuple[float, float, float]:
    rows = table.new_lesions
    if len(rows) < 10:
        return (float(np.log(1.0)), 0.8, 0.6)
    x = np.log(np.maximum(rows[:, 0], 0.5) / 3.0)
    y = np.log(np.maximum(rows[:, 1], 0.02))
    centred = x - x.mean()
    slope = float((centred * y).sum() / ((centred**2).sum() + 3.0))
    return (
        float(y.mean() - slope * x.mean()),
        slope,
        float(np.clip((y - y.mean() - slope * centred).std(), 0.1, 2.0)),
    )
