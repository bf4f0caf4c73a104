"""How an outcome model does on patients that it was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from inference.evaluation.measures import auroc, crps
from inference.models.outcome.model import FLOOR, OutcomeModel, weighted_quantiles
from inference.settings import Regimen
from inference.training.cohort import Cohort
from inference.training.features import PatientTable
from inference.training.outcome import OutcomeTraining
from inference.training.outcome_rows import rows_of


@dataclass(frozen=True, slots=True)
class OutcomeFigures:
    """How the model does on patients that it was not fitted on; CRPS in percent of the baseline volume."""

    patients: int
    crps_pct: float
    climatology_crps_pct: float
    coverage80: float
    auroc_response: float


def evaluate_outcome_model(
    model: OutcomeModel,
    cohort: Cohort,
    table: PatientTable,
    regimens: Mapping[str, Regimen],
    settings: OutcomeTraining,
) -> OutcomeFigures:
    """Measure the model on other patients, one random regimen and month each."""
    rows = rows_of(cohort, table, regimens, model.settings.regimens, model.settings.months)
    x = [model.standardised(f) for f in table.features]
    rng = np.random.default_rng(settings.seed + 3)
    by_patient = [np.flatnonzero(rows.patient == p) for p in range(len(table.ids))]
    asked = [int(rng.choice(i)) for i in by_patient if len(i)]
    names = {name: regimens[name] for name in model.settings.regimens}
    found = []
    for i in asked:
        regimen = names[model.settings.regimens[rows.regimen[i]]]
        u = (np.arange(64) + 0.5) / 64
        place = rows.patient[i]
        mean, _ = model.means(x[place], regimen, float(rows.months[i]))
        z = ndtr(model.settings.spread * ndtri(u))
        values, weights = model.analogues(0, int(rows.regimen[i]), int(rows.knot[i]), float(mean[0]))
        samples = np.maximum(np.exp(weighted_quantiles(values, weights, z)) - FLOOR, 0.0)
        same = (model.arrays["row_month"] == rows.knot[i]) & (model.arrays["row_regimen"] == rows.regimen[i])
        others = np.maximum(np.exp(model.arrays["row_value"][same, 0]) - FLOOR, 0.0)
        truth = float(np.exp(rows.value[i, 0]) - FLOOR)
        low, high = np.quantile(samples, [0.1, 0.9])
        found.append(
            (
                100 * float(crps(samples, truth)),
                100 * float(crps(others, truth)) if len(others) else np.nan,
                float(low - 0.01 <= truth <= high + 0.01),
                float(-np.log(samples + FLOOR).mean()),
                rows.response[i],
            )
        )
    table_ = np.array(found)
    return OutcomeFigures(
        len(found),
        float(np.nanmean(table_[:, 0])),
        float(np.nanmean(table_[:, 1])),
        float(table_[:, 2].mean()),
        auroc(table_[:, 4], table_[:, 3]),
    )
