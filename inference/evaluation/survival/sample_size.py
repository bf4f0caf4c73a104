"""How many patients the development of a prediction model needs, by the criteria of Riley and others.

1. Shrinkage of the coefficients of .9 or better.
2. Apparent and adjusted Nagelkerke R2 within .05.
3. Binary outcome: the overall risk within .05. Survival: the limits of the overall cumulative incidence at
   the size that criteria 1 and 2 ask for are reported; no size is derived from them.

References
----------
Riley et al. 2019, Stat Med 38:1276 (criteria); Riley et al. 2020, BMJ 368:m441 (worked examples); van
Calster's R2 from an AUC: Riley, van Calster & Collins 2021, Stat Med 40:859.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

SHRINKAGE = 0.9
OPTIMISM = 0.05
MARGIN = 0.05
_Z = 1.96  # As in the papers, whose examples depend on it in the last patient.
_NOTIONAL = 10_000


@dataclass(frozen=True, slots=True)
class BinarySize:
    """Patients needed for a binary outcome, by criterion and in all."""

    shrinkage: int
    optimism: int
    overall_risk: int
    patients: int
    events_per_parameter: float


@dataclass(frozen=True, slots=True)
class Incidence:
    """Cumulative incidence at a time, with its 95 % limits at a sample size."""

    value: float
    lower: float
    upper: float

    @property
    def margin(self) -> float:
        """The larger distance of a limit from the value."""
        return max(self.upper - self.value, self.value - self.lower)


@dataclass(frozen=True, slots=True)
class SurvivalSize:
    """Patients needed for a survival outcome, by criterion and in all."""

    shrinkage: int
    optimism: int
    patients: int
    events: float
    events_per_parameter: float
    incidence: Incidence


def binary_sample_size(r2: float, parameters: int, prevalence: float) -> BinarySize:
    """Patients needed for a model of a binary outcome.

    Parameters
    ----------
    r2 : float
        Cox and Snell's R2 that is expected of the model, adjusted for optimism.
    parameters : int
        Candidate coefficients, not counting the intercept.
    prevalence : float
        Share of patients with the outcome.

    Raises
    ------
    ValueError
        A share or an R2 outside 0 and 1, an R2 above the greatest possible, or no parameters.
    """
    if not 0 < prevalence < 1:
        raise ValueError("the prevalence must lie between 0 and 1")
    null = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    most = -math.expm1(2 * null)
    first, second = _criteria(r2, most, parameters)
    third = math.ceil((_Z / MARGIN) ** 2 * prevalence * (1 - prevalence))
    patients = max(first, second, third)
    return BinarySize(first, second, third, patients, patients * prevalence / parameters)


def survival_sample_size(
    r2: float, parameters: int, rate: float, follow_up: float, time: float
) -> SurvivalSize:
    """Patients needed for a model of a time to an event.

    Parameters
    ----------
    r2 : float
        Cox and Snell's R2 that is expected of the model, adjusted for optimism.
    parameters : int
        Candidate coefficients.
    rate : float
        Events per patient and unit of time.
    follow_up : float
        Mean follow-up, in the same unit.
    time : float
        When the prediction is for, in the same unit.

    Raises
    ------
    ValueError
        A rate or a time that is not above 0, an R2 outside 0 and the greatest possible, or no parameters.
    """
    if min(rate, follow_up, time) <= 0:
        raise ValueError("rate and times must be above 0")
    share = rate * follow_up
    # The greatest R2 is that of a notional study with a whole number of events, as pmsampsize has it.
    whole = math.ceil(rate * (follow_up * _NOTIONAL)) / _NOTIONAL
    most = -math.expm1(2 * whole * (math.log(whole) - 1))
    first, second = _criteria(r2, most, parameters)
    patients = max(first, second)
    spread = _Z * math.sqrt(rate / (patients * follow_up))
    value, lower, upper = (-math.expm1(-r * time) for r in (rate, max(rate - spread, 0.0), rate + spread))
    events = patients * share
    return SurvivalSize(first, second, patients, events, events / parameters, Incidence(value, lower, upper))


def _criteria(r2: float, most: float, parameters: int) -> tuple[int, int]:
    if parameters < 1:
        raise ValueError("a model has at least one parameter")
    if not 0 < r2 < min(most, SHRINKAGE):
        raise ValueError(f"R2 must lie between 0 and {min(most, SHRINKAGE):.3f}, the greatest possible")
    return tuple(_patients(r2, parameters, s) for s in (SHRINKAGE, r2 / (r2 + OPTIMISM * most)))  # type: ignore[return-value]


def _patients(r2: float, parameters: int, shrinkage: float) -> int:
    """Patients at which the expected shrinkage is as given, criterion 1 of Riley et al. 2019."""
    return math.ceil(parameters / ((shrinkage - 1) * math.log(1 - r2 / shrinkage)))


def r2_from_auc(auc: float, prevalence: float) -> float:
    """Cox and Snell's R2 of a binary model with a given AUC, by quadrature.

    The linear predictor is normal with the same variance in both groups, as in the paper, which draws it
    at random instead: log odds are then linear in it, and R2 follows from the mean log likelihood.

    Raises
    ------
    ValueError
        An AUC that is not between .5 and 1, or a prevalence not between 0 and 1.
    """
    if not 0.5 < auc < 1 or not 0 < prevalence < 1:
        raise ValueError("the AUC must lie between .5 and 1, and the prevalence between 0 and 1")
    distance = math.sqrt(2) * float(stats.norm.ppf(auc))
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    weights = weights / weights.sum()
    intercept = math.log(prevalence / (1 - prevalence)) - distance**2 / 2
    with_event = -np.logaddexp(0.0, -(intercept + distance * (nodes + distance)))
    without = -np.logaddexp(0.0, intercept + distance * nodes)
    model = prevalence * float(weights @ with_event) + (1 - prevalence) * float(weights @ without)
    null = prevalence * math.log(prevalence) + (1 - prevalence) * math.log(1 - prevalence)
    return -math.expm1(2 * (null - model))
