"""A regimen as numbers: what has been given at a month, and what is planned."""

from __future__ import annotations

import numpy as np

from inference.results import FloatArray
from inference.settings import Regimen

DAYS_PER_MONTH = 30.4375

DOSE_NAMES = (
    "tace_given",
    "tace_dose",
    "lipiodol",
    "haic_given",
    "tki",
    "anti_vegf",
    "immunotherapy",
)
"""Columns of `doses_given`."""


def doses_given(regimen: Regimen, months: float) -> FloatArray:
    """Return what was given until a month, (7,): see `DOSE_NAMES`.

    Sessions and cycles are counted in units of two and four, drugs as exposure that builds up over
    two months.
    """
    day = months * DAYS_PER_MONTH
    done = [s for s in regimen.tace if s.day <= day]
    cycles = [d for d in regimen.haic_days if d <= day]
    built_up = min(months / 2.0, 1.0)
    return np.array(
        [
            len(done) / 2.0,
            float(np.mean([s.dose for s in done])) if done else 0.0,
            float(np.mean([s.lipiodol for s in done])) if done else 0.0,
            len(cycles) / 4.0,
            regimen.tki * built_up,
            regimen.anti_vegf * built_up,
            regimen.immunotherapy * built_up,
        ]
    )
