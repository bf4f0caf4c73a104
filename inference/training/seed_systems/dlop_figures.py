"""Youden's cut and figures of discrimination, of patients who are alive at a landmark."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.models.second_opinions.dlop import OUTPUT_MONTHS
from inference.results import FloatArray
from inference.training.seed_systems.discrimination import auc_at, concordance
from inference.training.seed_systems.landmark import Landmarked


def youden_cut(survival: FloatArray, followed: Landmarked, landmark_months: float) -> float | None:
    """Return the three-year survival below which a patient is at high risk.

    It maximises sensitivity + specificity - 1 of death by three years (Youden 1950, Cancer 3:32) among
    patients of whom that is known; None where all of them died, or none.

    Parameters
    ----------
    survival : array, (n,)
    """
    until = OUTPUT_MONTHS - landmark_months
    dead = followed.event & (followed.months <= until)
    known = dead | (followed.months >= until)
    if not dead[known].any() or dead[known].all():
        return None
    score, died = survival[known], dead[known]
    distinct = np.unique(score)
    cuts = np.append((distinct[1:] + distinct[:-1]) / 2.0, np.nextafter(distinct[-1], np.inf))
    below = score[None, :] < cuts[:, None]
    youden = below[:, died].mean(axis=1) - below[:, ~died].mean(axis=1)
    return float(cuts[int(youden.argmax())])


def figures_at_landmark(
    risks: Mapping[str, FloatArray], followed: Landmarked, landmark_months: float
) -> dict[str, float]:
    """Return C, and AUC at three years, of log hazards by model; without those that need more patients."""
    found: dict[str, float] = {"validation_n": len(followed.ids)} if followed.ids else {}
    until = OUTPUT_MONTHS - landmark_months
    for name, risk in risks.items():
        found |= concordance(f"{name} C", followed.months, followed.event, risk)
        found |= auc_at(f"{name} AUC at 3 years", followed.months, followed.event, risk, until)
    return found
