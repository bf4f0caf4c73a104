"""Fits, cross-validates and writes the Cox bundle of HCC-TACE-Seg.

The penalty is chosen by the cross-validated likelihood of five inner folds, in the cross-validation as
in the final fit; standardisation and imputation happen inside each fold. The same table gives the same
bytes: every number is rounded to nine significant digits before it is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from inference.bundle_store import seal
from inference.evaluation.metrics import kaplan_meier
from inference.evaluation.splits import stratified_folds
from inference.evaluation.survival.brier import brier_score, integrated_brier_score
from inference.evaluation.survival.calibration import calibration_groups
from inference.evaluation.survival.concordance import harrell_c, uno_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.models.cox import MODEL_FILE, Design, EndpointModel, to_tensors
from inference.models.cox_design import COVARIATES, covariate_row
from inference.randomness import RandomStreams
from inference.results import FloatArray
from inference.training.cox_fit import (
    CoxFit,
    baseline_hazard,
    cross_validated_likelihood,
    fit_cox,
)
from inference.training.hcc_tace_seg import COLUMNS, Outcome, read_cohort

NAME, VERSION = "cox_hcc_tace_seg", "1.0.0"
COMMAND = "hepatocast train cox-hcc-tace-seg --data clinical_Data.csv --out BUNDLE_DIR"
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, math.inf)
"""The last leaves all covariates out: where they do not help, the curve is that of the cohort."""
FOLDS, SEEDS = 5, (0, 1, 2, 3, 4)
LEAST_AT_RISK = 10
CORRELATION_SHRINKAGE = 0.1
_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Standardisation:
    """Mean and standard deviation of each covariate, (p,), from the patients of one fold."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, x: FloatArray) -> Standardisation:
        """Return that of covariates x (n, p), of which some may be missing (NaN)."""
        scale = np.nanstd(x, axis=0)
        return cls(np.nanmean(x, axis=0), np.where(scale > 0, scale, 1.0))

    def __call__(self, x: FloatArray) -> FloatArray:
        """Standardise, with missing values at the mean."""
        return np.nan_to_num((x - self.mean) / self.scale, nan=0.0)


def tuned_fit(z: FloatArray, outcome: Outcome, rng: np.random.Generator) -> tuple[CoxFit, float]:
    """Fit with the penalty that inner folds prefer; returns the fit and the penalty."""
    folds = stratified_folds(outcome.months, outcome.event, FOLDS, rng)
    scores = [cross_validated_likelihood(z, outcome.months, outcome.event, a, folds) for a in PENALTIES]
    penalty = PENALTIES[int(np.argmax(scores))]
    return fit_cox(z, outcome.months, outcome.event, penalty), penalty


# ------------------------------------------------------------------ cross-validation


@dataclass(frozen=True, slots=True)
class _Predicted:
    """Predictions for held-out patients."""

    risk: FloatArray
    survival: FloatArray


def _predict_fold(
    x: FloatArray, outcome: Outcome, keep: np.ndarray, times: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Fit on `keep` and predict everybody: log relative hazard (n,) and survival (n, m)."""
    standardise = Standardisation.of(x[keep])
    z = standardise(x)
    train = Outcome(outcome.months[keep], outcome.event[keep])
    fit, _ = tuned_fit(z[keep], train, rng)
    base = baseline_hazard(z[keep], train.months, train.event, fit.beta, times)
    risk = z @ fit.beta
    return risk, np.exp(-np.exp(risk)[:, None] * base.hazard[None, :])


def cross_validate(x: FloatArray, outcome: Outcome, name: str) -> dict[str, Any]:
    """Return the figures of repeated five-fold cross-validation, stratified on event x time tertile.

    The Brier score is integrated between the 10th and 80th percentile of the times of all patients;
    Uno's C is taken up to the latter.
    """
    months, event = outcome.months, outcome.event
    first, last = np.quantile(months, [0.1, 0.8])
    times = np.linspace(first, last, 30)
    horizons = np.array([h for h in (12.0, 24.0, 36.0) if np.sum(months >= h) >= LEAST_AT_RISK])
    asked = np.concatenate((times, horizons))
    rows: dict[str, list[float]] = {"c": [], "uno_c": [], "ibs": [], "ibs_kaplan_meier": []}
    risk, survival = np.zeros(len(months)), np.zeros((len(months), len(horizons)))
    for seed in SEEDS:
        rng = RandomStreams(seed).derive("cross-validation", name)
        for held_out in stratified_folds(months, event, FOLDS, rng):
            keep = np.setdiff1d(np.arange(len(months)), held_out)
            log_hazard, curves = _predict_fold(x, outcome, keep, asked, rng)
            marginal = kaplan_meier(months[keep], event[keep])(times)
            train, test = FollowUp(months[keep], event[keep]), FollowUp(months[held_out], event[held_out])
            predicted = curves[held_out][:, : len(times)]
            rows["c"].append(harrell_c(test, log_hazard[held_out]))
            rows["uno_c"].append(uno_c(train, test, log_hazard[held_out], float(times[-1])))
            for key, curve in (
                ("ibs", predicted),
                ("ibs_kaplan_meier", np.tile(marginal, (len(held_out), 1))),
            ):
                scores = brier_score(train, test, curve, times)
                rows[key].append(integrated_brier_score(scores, times))
            risk[held_out] += log_hazard[held_out] / len(SEEDS)
            survival[held_out] += curves[held_out][:, len(times) :] / len(SEEDS)
    return {
        **{key: {"mean": _round(np.mean(v), 4), "sd": _round(np.std(v), 4)} for key, v in rows.items()},
        "calibration": _calibration(outcome, risk, survival, horizons),
    }


def _calibration(
    outcome: Outcome, risk: FloatArray, survival: FloatArray, horizons: FloatArray
) -> dict[str, Any]:
    """Slope of the held-out log relative hazard, and thirds by predicted survival at each horizon."""
    thirds = {}
    observed = FollowUp(outcome.months, outcome.event)
    for i, horizon in enumerate(horizons):
        groups = calibration_groups(observed, survival[:, i], float(horizon), 3)
        thirds[str(int(horizon))] = [
            {"n": g.n, "predicted": _round(g.predicted, 4), "observed": _round(g.observed, 4)} for g in groups
        ]
    return {"slope": _slope(outcome, risk), "thirds_by_month": thirds}


def _slope(outcome: Outcome, risk: FloatArray) -> dict[str, float] | str:
    if np.ptp(risk) == 0:
        return "none: no covariates"
    fit = fit_cox(risk[:, None], outcome.months, outcome.event, 0.0)
    return {
        "estimate": _round(fit.beta[0], 3),
        "standard_error": _round(np.sqrt(fit.covariance[0, 0]), 3),
    }


# ------------------------------------------------------------------ the bundle


def _round(value: float | np.floating[Any], digits: int) -> float:
    return round(float(value), digits)


def _shown(penalty: float) -> float | str:
    return "infinite: no covariates" if math.isinf(penalty) else penalty


def _significant(values: FloatArray) -> FloatArray:
    """Round to nine significant digits, so that the last bits of a linear algebra library do not count."""
    flat = [float(f"{v:.{_DIGITS - 1}e}") + 0.0 for v in np.ravel(values)]
    return np.array(flat, dtype=np.float64).reshape(np.shape(values))


def _design(x: FloatArray) -> Design:
    standardise = Standardisation.of(x)
    z = standardise(x)
    correlation = (1 - CORRELATION_SHRINKAGE) * np.corrcoef(z, rowvar=False)
    correlation += CORRELATION_SHRINKAGE * np.eye(z.shape[1])
    return Design(standardise.mean, standardise.scale, z.min(axis=0), z.max(axis=0), correlation)


def _endpoint(z: FloatArray, outcome: Outcome, name: str) -> tuple[EndpointModel, float]:
    fit, penalty = tuned_fit(z, outcome, RandomStreams(0).derive("fit", name))
    last = int(np.sort(outcome.months)[-LEAST_AT_RISK])
    months = np.arange(last + 1, dtype=np.float64)
    base = baseline_hazard(z, outcome.months, outcome.event, fit.beta, months)
    model = EndpointModel(
        beta=fit.beta,
        covariance=fit.covariance,
        months=months,
        hazard=base.hazard,
        variance=base.variance,
        gradient=base.gradient,
        risk_cut=float(np.median(z @ fit.beta)),
    )
    return model, penalty


def fit_bundle(table: Path, out: Path) -> dict[str, Any]:
    """Fit on the clinical table of HCC-TACE-Seg and write a bundle into the folder `out`.

    Returns
    -------
    dict
        The metadata that were written, cross-validated figures included.

    Raises
    ------
    ModelError
        The table is not the one of HCC-TACE-Seg.
    """
    cohort = read_cohort(table)
    x = np.array([covariate_row(record) for record in cohort.records])
    design = _design(x)
    z = Standardisation(design.mean, design.scale)(x)
    models, penalties, figures = {}, {}, {}
    for name, outcome in cohort.outcomes.items():
        models[name], penalties[name] = _endpoint(z, outcome, name)
        figures[name] = cross_validate(x, outcome, name)
    out.mkdir(parents=True, exist_ok=True)
    tensors = {key: _significant(value) for key, value in to_tensors(design, models).items()}
    save_file(tensors, out / MODEL_FILE)
    attribution = (
        resources.files("inference.training").joinpath("hcc_tace_seg_attribution.txt").read_text("utf-8")
    )
    (out / "ATTRIBUTION").write_text(attribution, encoding="utf-8")
    metadata = _metadata(cohort.outcomes, models, penalties, figures)
    seal(out, metadata)
    return metadata


def _metadata(
    outcomes: Mapping[str, Outcome],
    models: Mapping[str, EndpointModel],
    penalties: Mapping[str, float],
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    events = {name: int(outcome.event.sum()) for name, outcome in outcomes.items()}
    n = len(outcomes["os"].months)
    return {
        "name": NAME,
        "version": VERSION,
        "kind": "survival",
        "format": "cox",
        "trained_on": f"real: HCC-TACE-Seg, n {n}, events {events['os']} (OS) / {events['ttp']} (TTP)",
        "regimens": ["tace"],
        "command": COMMAND,
        "covariates": list(COVARIATES),
        "columns": sorted({column for column, _, _ in COLUMNS}),
        "licence": "CC BY 4.0",
        "doi": "10.7937/TCIA.5FNA-0924",
        "method": {
            "model": "Cox proportional hazards, ridge penalty, Efron ties, Breslow baseline hazard",
            "penalty": {name: _shown(penalty) for name, penalty in penalties.items()},
            "penalties_tried": [_shown(penalty) for penalty in PENALTIES],
            "follow_up_months": {name: int(model.months[-1]) for name, model in models.items()},
            "follow_up_rule": f"the last whole month with at least {LEAST_AT_RISK} patients at risk",
            "risk_group": "high above the median risk score of the training patients, else low; "
            "not stratified where there are no covariates",
            "log_hazard_per_standard_deviation": {
                name: {key: _round(b, 4) for key, b in zip(COVARIATES, model.beta, strict=True)}
                for name, model in models.items()
            },
        },
        "cross_validation": {
            "protocol": "5 folds stratified on event x time tertile, seeds 0-4; standardisation, imputation "
            "and choice of the penalty inside each training fold; mean and standard deviation over 25 folds",
            "figures": figures,
            "reference": {"os": {"c": {"mean": 0.620, "sd": 0.069}}, "what": "Cox-ridge on baseline columns"},
        },
        "limits": [
            "One centre, 105 patients; no external validation.",
            "No albumin and no bilirubin in the data: liver function is known by Child-Pugh class only.",
            "Time to progression is of progression alone; 60 patients are censored, 38 within 5 months.",
            "53 of the 60 patients censored for progression are known to have died.",
            "No baseline column predicted progression in cross-validation: its curve is that of the cohort.",
        ],
    }
