"""A Cox model of survival after TACE, served from a bundle.

The patient's curve is that of the proportional hazards model. Covariates that are missing are drawn
from their normal distribution given those that are known, so the curve is the mean over what they may
be and its limits widen by as much as they matter. Where more than half of the information that the
model of overall survival uses is missing, nothing is assessed: nothing then says that the patient is
like those of the cohort, and an average curve is not a forecast.

An end point that no covariate predicted in cross-validation has coefficients of 0: its curve is that
of the cohort, and its risk group says that patients are not stratified.

Pointwise 95 % limits are on the log-log scale, by the delta method, and cover the uncertainty of the
coefficients, of the baseline hazard and of missing covariates.

References
----------
Kalbfleisch & Prentice 2002, The Statistical Analysis of Failure Time Data, sections 1.4 and 4.3 (limits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from inference.bundle_store import bundle_folder, load_metadata
from inference.case import ClinicalRecord
from inference.clinical.summary import with_imaging
from inference.clinical.variables import title_of
from inference.errors import ModelError
from inference.models.cox_design import COVARIATES, covariate_row
from inference.models.evidence import CLINICAL_ONLY, NOTHING_MORE, Evidence, EvidenceWanted
from inference.results import (
    BundleInfo,
    FloatArray,
    LesionMeasurement,
    NotAssessed,
    Reason,
    Survival,
    SurvivalCurve,
)
from inference.settings import Regimen

MODEL_FILE = "model.safetensors"
DEFAULT_BUNDLE = "cox_hcc_tace_seg"
LEAST_KNOWN_SHARE = 0.5
HIGH_RISK, LOW_RISK, NOT_STRATIFIED = "high", "low", "not stratified"
HORIZONS_MONTHS = (12, 24, 36)
_NORMAL_975 = 1.959963984540054
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_ENDPOINTS = ("os", "ttp")


@dataclass(frozen=True, slots=True)
class Design:
    """Standardisation and joint distribution of the p covariates, from the training patients.

    Attributes
    ----------
    mean, scale : array, (p,)
    low, high : array, (p,)
        Training range of the standardised covariates; values outside are moved to it.
    correlation : array, (p, p)
    """

    mean: FloatArray
    scale: FloatArray
    low: FloatArray
    high: FloatArray
    correlation: FloatArray


@dataclass(frozen=True, slots=True)
class EndpointModel:
    """Coefficients and baseline hazard of one end point, at standardised covariates 0.

    Attributes
    ----------
    beta : array, (p,)
    covariance : array, (p, p)
    months : array, (g,)
        0, 1, ... to the last month at which enough patients were at risk.
    hazard, variance : array, (g,)
        Cumulative hazard and its variance at known coefficients.
    gradient : array, (g, p)
        See `inference.training.cox_fit.BaselineHazard`.
    risk_cut : float
        Median of the training patients' risk scores; above is high risk.
    """

    beta: FloatArray
    covariance: FloatArray
    months: FloatArray
    hazard: FloatArray
    variance: FloatArray
    gradient: FloatArray
    risk_cut: float


@dataclass(frozen=True, slots=True)
class CompletedRow:
    """Standardised covariates of one patient with missing ones at their expectation.

    Attributes
    ----------
    z : array, (p,)
    missing_covariance : array, (p, p)
        Covariance of what is missing given what is known; 0 for what is known.
    """

    z: FloatArray
    missing_covariance: FloatArray


def complete(design: Design, row: FloatArray) -> CompletedRow:
    """Standardise covariates (p,) and fill missing ones (NaN) by the conditional normal distribution."""
    known = np.isfinite(row)
    missing = ~known
    z = np.clip((row - design.mean) / design.scale, design.low, design.high)
    covariance = np.zeros_like(design.correlation)
    if missing.any():
        among_known = design.correlation[np.ix_(known, known)]
        across = design.correlation[np.ix_(missing, known)]
        weights = np.linalg.solve(among_known, across.T).T if known.any() else across
        z[missing] = weights @ z[known]
        rest = design.correlation[np.ix_(missing, missing)] - weights @ across.T
        covariance[np.ix_(missing, missing)] = rest
    return CompletedRow(z, covariance)


def known_share(design: Design, model: EndpointModel, row: CompletedRow) -> float:
    """Return the share of the variance of the risk score that the known covariates carry, 0 to 1."""
    total = float(model.beta @ design.correlation @ model.beta)
    left = float(model.beta @ row.missing_covariance @ model.beta)
    return 1.0 if total <= 0 else max(0.0, 1.0 - left / total)


def _limits(model: EndpointModel, row: CompletedRow, survival: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lower and upper 95 % limits, (g,) each."""
    lower, upper = np.ones_like(survival), np.ones_like(survival)
    seen = model.hazard > 0
    hazard = model.hazard[seen]
    slope = row.z[None, :] - model.gradient[seen] / hazard[:, None]
    of_coefficients = np.einsum("gi,ij,gj->g", slope, model.covariance, slope)
    of_missing = float(model.beta @ row.missing_covariance @ model.beta)
    sd = np.sqrt(model.variance[seen] / hazard**2 + of_coefficients + of_missing)
    log_log = np.log(-np.log(survival[seen]))
    lower[seen] = np.exp(-np.exp(log_log + _NORMAL_975 * sd))
    upper[seen] = np.exp(-np.exp(log_log - _NORMAL_975 * sd))
    # Before the first event nothing is known but that survival is no lower than at that event.
    before = ~seen & (model.months > 0)
    if seen.any():
        lower[before] = lower[seen][0]
    return np.minimum.accumulate(lower), np.minimum.accumulate(upper)


def _median(months: FloatArray, survival: FloatArray) -> float | None:
    below = np.flatnonzero(survival <= 0.5)
    if not len(below):
        return None
    i = int(below[0])
    share = (survival[i - 1] - 0.5) / (survival[i - 1] - survival[i])
    return float(months[i - 1] + share * (months[i] - months[i - 1]))


def _rmst36(months: FloatArray, survival: FloatArray) -> float | None:
    if months[-1] < 36:
        return None
    until = months <= 36
    return float(np.trapezoid(survival[until], months[until]))


def _risk_group(model: EndpointModel, linear: float) -> str:
    if not model.beta.any():
        return NOT_STRATIFIED
    return HIGH_RISK if linear > model.risk_cut else LOW_RISK


def predict_curve(model: EndpointModel, row: CompletedRow) -> SurvivalCurve:
    """Predict the curve of one patient; medians and areas interpolate between whole months."""
    linear = float(model.beta @ row.z)
    spread = float(np.sqrt(model.beta @ row.missing_covariance @ model.beta))
    relative = np.exp(linear + spread * _NODES)
    mean = np.exp(-model.hazard[:, None] * relative[None, :]) @ (_WEIGHTS / _WEIGHTS.sum())
    survival = np.minimum(mean, 1.0)
    lower, upper = _limits(model, row, survival)
    at = {int(m): i for i, m in enumerate(model.months)}
    return SurvivalCurve(
        months=tuple(model.months.tolist()),
        survival=tuple(survival.tolist()),
        lower=tuple(lower.tolist()),
        upper=tuple(upper.tolist()),
        probabilities={
            h: (float(survival[at[h]]), float(lower[at[h]]), float(upper[at[h]]))
            for h in HORIZONS_MONTHS
            if h in at
        },
        median_months=_median(model.months, survival),
        rmst36=_rmst36(model.months, survival),
        risk_score=linear,
        risk_group=_risk_group(model, linear),
    )


@dataclass(frozen=True, slots=True)
class CoxSurvivalModel:
    """Survival and time to progression after TACE; an `inference.models.protocols.SurvivalModel`."""

    bundle: BundleInfo
    regimens: tuple[str, ...]
    design: Design
    endpoints: Mapping[str, EndpointModel]

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the model was trained on."""
        return self.bundle

    @property
    def wants(self) -> EvidenceWanted:
        """Neither images nor texts."""
        return CLINICAL_ONLY

    def predict(
        self,
        clinical: ClinicalRecord,
        lesions: tuple[LesionMeasurement, ...],
        regimen: Regimen,
        evidence: Evidence = NOTHING_MORE,
    ) -> Survival:
        """Return curves of overall survival and time to progression, for the regimens covered.

        Tumour variables that the clinical record lacks are taken from the lesions; images and texts do
        not enter.
        """
        if regimen.id not in self.regimens:
            refusal = NotAssessed(
                Reason.REGIMEN_NOT_COVERED,
                f"The survival model was fitted on patients treated with {', '.join(self._covered())} "
                f"and says nothing about {regimen.name}.",
            )
            return Survival(os=refusal, pfs=refusal, ttp=refusal)
        raw = covariate_row(with_imaging(clinical, lesions))
        row = complete(self.design, raw)
        no_pfs = NotAssessed(
            Reason.ENDPOINT_NOT_COVERED,
            "The patients the survival model was fitted on have no progression-free survival.",
        )
        share = known_share(self.design, self.endpoints["os"], row)
        if share < LEAST_KNOWN_SHARE:
            too_little = self._too_little(raw, share)
            return Survival(os=too_little, pfs=no_pfs, ttp=too_little)
        return Survival(
            os=predict_curve(self.endpoints["os"], row),
            pfs=no_pfs,
            ttp=predict_curve(self.endpoints["ttp"], row),
        )

    def _covered(self) -> Sequence[str]:
        return [regimen.upper() for regimen in self.regimens]

    def _too_little(self, raw: FloatArray, share: float) -> NotAssessed:
        wanted = ", ".join(_most_wanted(self.endpoints["os"], raw))
        return NotAssessed(
            Reason.CLINICAL_VALUES_MISSING,
            f"Too few clinical values: they carry {100 * share:.0f} % of what the survival model uses, and "
            f"{100 * LEAST_KNOWN_SHARE:.0f} % are needed; what would add most is: {wanted}.",
        )


def _most_wanted(model: EndpointModel, raw: FloatArray, count: int = 3) -> list[str]:
    """Titles of the missing variables with the largest coefficients."""
    variables = [variable for variable, _ in COVARIATES.values()]
    order = np.argsort(-np.abs(model.beta), kind="stable")
    return [title_of(variables[i]) for i in order if np.isnan(raw[i])][:count]


def load_cox_model(bundle: str | Path = DEFAULT_BUNDLE) -> CoxSurvivalModel:
    """Load a bundle after verifying its digest.

    Raises
    ------
    ModelError
        The bundle is absent or damaged, or was made for other covariates.
    """
    info, metadata = load_metadata(bundle)
    if metadata.get("covariates") != list(COVARIATES):
        raise ModelError(f"the model bundle {info.name} was made for other covariates")
    try:
        tensors = load_file(bundle_folder(bundle) / MODEL_FILE)
        design = Design(**{name: tensors[f"design.{name}"] for name in Design.__slots__})
        endpoints = {name: _endpoint_model(tensors, name) for name in _ENDPOINTS}
        regimens = tuple(str(r) for r in metadata["regimens"])
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelError(f"the model bundle {info.name} cannot be read") from error
    return CoxSurvivalModel(info, regimens, design, endpoints)


def _endpoint_model(tensors: Mapping[str, FloatArray], name: str) -> EndpointModel:
    arrays = {field: tensors[f"{name}.{field}"] for field in EndpointModel.__slots__ if field != "risk_cut"}
    return EndpointModel(**arrays, risk_cut=float(tensors[f"{name}.risk_cut"][0]))


def to_tensors(design: Design, endpoints: Mapping[str, EndpointModel]) -> dict[str, FloatArray]:
    """Return what `load_cox_model` reads from the file of tensors."""
    tensors = {f"design.{field}": getattr(design, field) for field in Design.__slots__}
    for name, model in endpoints.items():
        for field in EndpointModel.__slots__:
            value = getattr(model, field)
            tensors[f"{name}.{field}"] = np.atleast_1d(np.asarray(value, dtype=np.float64))
    return tensors
