"""What ResNet50 + MLP and its nomograms are worth on patients that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from inference.clinical.nomogram import Nomogram
from inference.models.second_opinions.resnet50 import PatientImageFeatures
from inference.training.cohort import Cohort
from inference.training.seed_systems.discrimination import concordance
from inference.training.seed_systems.figures import auc_figures
from inference.training.seed_systems.outcomes import follow_up, objective_response
from inference.training.seed_systems.resnet50_patients import Resnet50Patients


def nomogram_values(
    nomogram: Nomogram,
    predictors: Mapping[str, float],
    features: Mapping[str, float],
    typical: Mapping[str, float],
) -> dict[str, float]:
    """Return the values of a nomogram's lines, the median of the training patients for one not known."""
    given = {**predictors, **features}
    return {
        p.name: given[p.name] if np.isfinite(given[p.name]) else typical[p.name]
        for p in nomogram.file.predictors
    }


def figures(
    cohort: Cohort,
    patients: Resnet50Patients,
    seen: Sequence[PatientImageFeatures],
    nomograms: Sequence[Nomogram | None],
    typical: Mapping[str, float],
) -> dict[str, float]:
    """Return figures of validation patients, who chose nothing; without those that need more of them."""
    if not patients.ids:
        return {}
    response = objective_response(cohort, patients.ids)
    probability = np.array([s.response for s in seen])
    found: dict[str, float] = {"validation_n": len(patients.ids)}
    found |= {f"response_{k}": v for k, v in auc_figures(response, probability).items()}
    known = np.isfinite(response)
    if known.any():
        found["response_brier"] = round(float(((probability - response)[known] ** 2).mean()), 4)
    months, event = follow_up(cohort, patients.ids, "pfs")
    followed = np.isfinite(months)
    found["pfs_n"] = float(followed.sum())
    for name, nomogram in zip(("pfs_c", "pfs_c_clinical", "pfs_c_image"), nomograms, strict=True):
        if nomogram is not None:
            totals = np.array(
                [
                    nomogram.score(nomogram_values(nomogram, p, s.features, typical)).total
                    for p, s in zip(patients.predictors, seen, strict=True)
                ]
            )
            found |= concordance(name, months[followed], event[followed] > 0, totals[followed])
    return found
