"""Fit the outcome model: means, rate of new lesions, analogues, copula and conformal factor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import ndtri

from inference.models.outcome.design import Standardiser, hats, tree_design
from inference.models.outcome.model import OutcomeModel, OutcomeSettings, nearest
from inference.results import FloatArray
from inference.settings import Frozen, Regimen
from inference.training.cohort import Cohort
from inference.training.features import PatientTable
from inference.training.outcome_regression import fit_means, fit_rate, fold_of
from inference.training.outcome_rows import Rows, covered, rows_of
from inference.training.outcome_trees import TreeTraining, grow_trees, share_of_trees

COVERAGE = 0.80
_TAIL_Z = 1.2815515655446004


class OutcomeTraining(Frozen):
    """How the outcome model is fitted."""

    seed: int = 0
    neighbours_share: float = 0.12
    fewest_neighbours: int = 20
    most_neighbours: int = 120
    trees: TreeTraining = TreeTraining()


def fit_outcome_model(
    cohort: Cohort, table: PatientTable, regimens: Mapping[str, Regimen], settings: OutcomeTraining
) -> OutcomeModel:
    """Fit the outcome model on the patients of a table.

    The arrays of the model: ``mean``, ``scale``, ``flagged`` of the features; ``shared_intercept``,
    ``shared`` and ``own`` of the means; ``rate_level`` and ``rate`` of new lesions; ``row_mean``,
    ``row_value``, ``row_regimen``, ``row_month`` of the analogues; ``tree_share`` and the arrays of
    `inference.models.outcome.trees.Trees`; ``mixing``, the Cholesky factor of
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
    means = fit_means(x, rows, basis, fold, len(names), scale)
    design = tree_design(x, rows.doses, rows.months, np.eye(len(names))[rows.regimen])
    grown = grow_trees(design, rows.value, fold, settings.trees, settings.seed)
    share = share_of_trees(means.out_of_fold, grown.out_of_fold, rows.value)
    out_of_fold = means.out_of_fold + share * (grown.out_of_fold - means.out_of_fold)
    level, rate = fit_rate(x, rows, basis, len(names))
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
        "tree_share": share,
        "tree_start": grown.trees.start,
        "tree_feature": grown.trees.feature,
        "tree_threshold": grown.trees.threshold,
        "tree_value": grown.trees.value,
        "row_mean": out_of_fold,
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
