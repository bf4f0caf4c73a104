"""Outcomes as zeros and ones for the networks, and who is counted: the landmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.evaluation.metrics import censoring_survival
from inference.results import FloatArray, Mask
from inference.training.cohort import Cohort

ONE_YEAR = 12.0


@dataclass(frozen=True, slots=True)
class Labels:
    """Outcome of n patients: 1, 0, or NaN where it is not known; and how much each counts, (n,)."""

    value: FloatArray
    weight: FloatArray

    @property
    def known(self) -> Mask:
        """Whose outcome is known, (n,)."""
        return np.isfinite(self.value)


def progression(cohort: Cohort, ids: Sequence[str], until_months: float) -> FloatArray:
    """Return who had progressive disease by mRECIST up to a month under the treatment given, (n,).

    NaN without it where the last assessment was made in the first half of that time: it may have come
    later.
    """
    seen = cohort.outcomes
    seen = seen[(seen["observed"] == 1) & (seen["months"] <= until_months)]
    seen = seen[seen["mrecist"].isin(["CR", "PR", "SD", "PD"])]
    progressed = set(seen.loc[seen["mrecist"] == "PD", "patient_id"].astype(str))
    last = {str(p): float(m) for p, m in seen.groupby("patient_id")["months"].max().items()}
    return np.array(
        [1.0 if p in progressed else 0.0 if last.get(p, 0.0) >= until_months / 2 else np.nan for p in ids]
    )


def survival_of(months: FloatArray, event: FloatArray, at: float = ONE_YEAR) -> Labels:
    """Return who lived to a month; who left before it is not known, and those who did not stand for them.

    Parameters
    ----------
    months, event : array, (n,)
        NaN where not known.

    References
    ----------
    Robins & Rotnitzky 1992: a patient of known outcome counts one over the probability that it was seen.
    """
    given = np.isfinite(months) & np.isfinite(event)
    died = given & (np.nan_to_num(event) > 0) & (np.nan_to_num(months) < at)
    lived = given & (np.nan_to_num(months) >= at)
    value = np.where(lived, 1.0, np.where(died, 0.0, np.nan))
    weight = np.zeros(len(months))
    known = died | lived
    if known.any():
        stay = censoring_survival(months[given], event[given] > 0)
        # Just before the event: who leaves at the same moment left after it.
        uncensored = stay(np.nextafter(np.minimum(months[known], at), -np.inf))
        weight[known] = 1.0 / np.maximum(uncensored, 0.05)
    return Labels(value, weight)


def after_landmark(months: FloatArray, landmark: float) -> Mask:
    """Return who was alive and followed beyond a landmark, (n,); all who are known where it is 0."""
    known = np.isfinite(months)
    return known if landmark == 0 else known & (np.nan_to_num(months) > landmark)


def held_out(value: FloatArray, share: float, fewest: int, rng: np.random.Generator) -> Mask:
    """Return which patients are kept from the fit, a share of those with and of those without an outcome.

    Nobody where fewer than `fewest` of either would be kept.
    """
    held = np.zeros(len(value), dtype=bool)
    for outcome in (0.0, 1.0):
        members = rng.permutation(np.flatnonzero(value == outcome))
        count = int(share * len(members))
        if count < fewest:
            return np.zeros(len(value), dtype=bool)
        held[members[:count]] = True
    return held
