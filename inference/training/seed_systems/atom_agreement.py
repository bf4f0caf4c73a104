"""Who reached the target where ATOM agreed with the treatment given: table 3 of the publication.

It is a description. Patients for whom the flow ends at another therapy differ from the others, so a higher
share where it agreed does not show that following the flow would help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np
from scipy.special import expit

from inference.models.second_opinions.atom import Therapy, advise
from inference.models.second_opinions.cohort_networks import CohortNetwork, Inputs
from inference.results import FloatArray
from inference.training.seed_systems.cohort_fit import log_odds


class Agreement(StrEnum):
    """What the flow says of the treatment that a patient was given."""

    SAME = "consistent"
    OTHER = "inconsistent"
    AGAINST = "against all four"


def agreement_of(
    given: Therapy, scores: Mapping[Therapy, float], medians: Mapping[Therapy, float]
) -> Agreement:
    """Hold the end of the flow against the therapy that was given."""
    advised = advise(scores, medians).therapy
    if advised is None:
        return Agreement.AGAINST
    return Agreement.SAME if advised is given else Agreement.OTHER


def agreement_table(
    networks: Mapping[Therapy, CohortNetwork],
    medians: Mapping[Therapy, float],
    patients: Sequence[tuple[Therapy, Inputs, FloatArray]],
) -> dict[str, dict[str, tuple[int, int]]]:
    """Return, for each therapy given and each agreement, who reached the target and how many there were.

    Parameters
    ----------
    patients : sequence of (therapy, inputs, value)
        Patients of each therapy and whether each reached its target, 1 or 0.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for given, inputs, value in patients:
        scores = {t: expit(log_odds(network, inputs)) for t, network in networks.items()}
        each = [
            agreement_of(given, {t: float(s[i]) for t, s in scores.items()}, medians)
            for i in range(len(inputs))
        ]
        found[str(given)] = {
            str(kind): (int(value[_places(each, kind)].sum()), len(_places(each, kind))) for kind in Agreement
        }
    return found


def _places(each: Sequence[Agreement], kind: Agreement) -> np.ndarray:
    return np.array([i for i, found in enumerate(each) if found is kind], dtype=np.intp)
