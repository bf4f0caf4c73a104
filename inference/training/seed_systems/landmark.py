"""Who is alive and followed at a landmark: for models that take something which is seen after the start.

A model that takes the response to treatment from time zero gives those who lived long enough to respond a
survival that they had already had (Anderson et al. 1983, J Clin Oncol 1:710). At the landmark the response
is known, and only those who are still followed are forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray
from inference.training.cohort import Cohort
from inference.training.seed_systems.outcomes import follow_up, objective_response

REASON = (
    "response to treatment is an input and is not known before the landmark; taken from time zero, it would "
    "credit responders with the time that they needed to respond"
)


@dataclass(frozen=True, slots=True)
class Landmarked:
    """Patients who are alive and followed beyond a landmark, and how many are not.

    Attributes
    ----------
    ids : tuple of str, (n,)
    months : array, (n,)
        After the landmark.
    event : array of bool, (n,)
    response : array, (n,)
        CR or PR by mRECIST up to the landmark: 1, 0, NaN where it was not assessed.
    died, left, unknown : int
        Patients not used: dead by the landmark, out of follow-up by then, follow-up not known.
    """

    ids: tuple[str, ...]
    months: FloatArray
    event: np.ndarray
    response: FloatArray
    died: int
    left: int
    unknown: int

    def told(self) -> dict[str, int]:
        """Return the numbers of patients for people."""
        return {
            "used": len(self.ids),
            "without_assessment_of_response": int(np.isnan(self.response).sum()),
            "responded": int(np.nansum(self.response)),
            "died_before": self.died,
            "left_before": self.left,
            "follow_up_not_known": self.unknown,
        }


def landmarked(cohort: Cohort, ids: Sequence[str], landmark_months: float) -> Landmarked:
    """Return who of some patients is alive and followed beyond the landmark."""
    months, event = follow_up(cohort, ids, "os")
    known = np.isfinite(months)
    beyond = known & (np.nan_to_num(months) > landmark_months)
    gone = known & ~beyond
    kept = tuple(p for p, ok in zip(ids, beyond, strict=True) if ok)
    return Landmarked(
        ids=kept,
        months=months[beyond] - landmark_months,
        event=event[beyond] > 0,
        response=objective_response(cohort, kept, landmark_months),
        died=int((gone & (event > 0)).sum()),
        left=int((gone & (event == 0)).sum()),
        unknown=int((~known).sum()),
    )
