"""What DLOP_Combin and its comparators are given of the patients of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.models.lasso_cox import LassoCox
from inference.models.protocols import Progress, within
from inference.models.second_opinions.dlop import (
    CTR_RISK,
    Comparators,
    DlopFile,
    DlopNetworks,
    factor_inputs,
    log_risk,
    network_log_rates,
)
from inference.models.second_opinions.dlop_factors import TITLES, clinical_factors
from inference.models.second_opinions.residual import ResidualSettings
from inference.models.survival.hazards import survival_at
from inference.results import FloatArray, Labels
from inference.training.cohort import Cohort
from inference.training.cohort_rows import clinical_of
from inference.training.radiomics_cox import RadiomicsTable, radiomics_table
from inference.training.seed_systems.factor_cox import log_risks
from inference.training.seed_systems.slices import prepared_slices

FACTOR_NAMES = tuple(TITLES)


@dataclass(frozen=True, slots=True)
class DlopPatients:
    """Inputs of n patients, in one order.

    Attributes
    ----------
    slices : tuple
        (k, 3, y, x) each, None without tumour.
    factors : array, (n, factors)
        In the order of `FACTOR_NAMES`, NaN where missing.
    radiomics : RadiomicsTable
    """

    ids: tuple[str, ...]
    slices: tuple[Labels | None, ...]
    factors: FloatArray
    radiomics: RadiomicsTable

    def named(self, place: int) -> dict[str, float]:
        """Return the factors of one patient by name."""
        return dict(zip(FACTOR_NAMES, self.factors[place].tolist(), strict=True))


def dlop_patients(
    cohort: Cohort,
    ids: Sequence[str],
    response: FloatArray,
    settings: ResidualSettings,
    work: Path,
    progress: Progress,
) -> DlopPatients:
    """Read patients; slices and radiomics are kept in the folder `work`.

    Raises
    ------
    TrainingDataError
        Images cannot be read.
    """
    slices = prepared_slices(cohort, ids, settings, work / "slices", within(progress, 0.0, 0.3))
    records = [clinical_of(cohort.row(p)) for p in ids]
    named = [clinical_factors(r, float(a)) for r, a in zip(records, response, strict=True)]
    return DlopPatients(
        tuple(ids),
        tuple(slices.get(p) for p in ids),
        np.array([[n[name] for name in FACTOR_NAMES] for n in named]).reshape(len(ids), len(FACTOR_NAMES)),
        radiomics_table(cohort, ids, work / "radiomics", within(progress, 0.3, 1.0)),
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one model forecasts for n patients who are alive at the landmark.

    Attributes
    ----------
    risk : array, (n,)
        Log hazard, on the model's own scale.
    survival : array, (n, m)
    """

    risk: FloatArray
    survival: FloatArray


def forecasts(
    patients: DlopPatients,
    file: DlopFile,
    networks: DlopNetworks,
    comparators: Comparators,
    months: FloatArray,
) -> Mapping[str, Forecast]:
    """Return forecasts at months after the start of treatment, (m,), by name of the model."""
    scales, grid = file.factors, file.grid
    after = np.maximum(months - file.landmark_months, 0.0)
    nothing = np.zeros(0)
    combin, ctr = [], []
    for place, slices in enumerate(patients.slices):
        inputs = factor_inputs(scales, patients.named(place))
        combin.append(network_log_rates(networks.combin, slices, inputs, grid))
        ctr.append(network_log_rates(networks.ctr, slices, nothing, grid))
    risks = {
        name: np.array([log_risk(r, grid, file.landmark_months) for r in rates])
        for name, rates in (("dlop-combin", combin), ("dlop-ctr", ctr))
    }
    found = {
        name: Forecast(risks[name], survival_at(grid, np.array(rates), after))
        for name, rates in (("dlop-combin", combin), ("dlop-ctr", ctr))
    }
    with_ctr = np.column_stack([patients.factors, risks["dlop-ctr"]])
    tables = [
        ("dlop-cox", comparators.cox, with_ctr, (*FACTOR_NAMES, CTR_RISK)),
        ("radiomics-cox", comparators.radiomics, patients.radiomics.values, patients.radiomics.names),
        ("clinical-cox", comparators.clinical, patients.factors, FACTOR_NAMES),
    ]
    found |= {
        name: _cox_forecast(model, log_risks(model, values, names), after)
        for name, model, values, names in tables
        if model is not None
    }
    return found


def _cox_forecast(model: LassoCox, risk: FloatArray, after: FloatArray) -> Forecast:
    place = np.searchsorted(np.array(model.file.times), after, side="right")
    hazard = np.concatenate([[0.0], model.file.hazard])[place]
    return Forecast(risk, np.exp(-np.exp(risk)[:, None] * hazard[None, :]))
