"""Response rates of a cohort, as forecast and as they were: what a trial would have reported.

Rates are those of one month: of the regimen and month that each patient was asked about. A forecaster's
rate is that of one sample a patient, drawn as the follow-up itself is; the most probable class of each
patient would make rare classes rarer still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.clinical.rates import Proportion, disease_control_rate, objective_response_rate
from inference.evaluation.bootstrap import Estimate, difference
from inference.evaluation.forecasts import CLASSES, category_of
from inference.evaluation.measures import IntArray, mean_of
from inference.evaluation.metrics import BoolArray
from inference.results import FloatArray, ResponseCategory

_LAST_RESPONSE = CLASSES.index(ResponseCategory.PR)
_LAST_CONTROL = CLASSES.index(ResponseCategory.SD)


@dataclass(frozen=True, slots=True)
class RateComparison:
    """One rate, forecast and true, of the same patients.

    Attributes
    ----------
    forecast, true : Proportion
        With exact limits.
    difference : Estimate
        Forecast less true, paired, with a bootstrap interval.
    """

    forecast: Proportion
    true: Proportion
    difference: Estimate


@dataclass(frozen=True, slots=True)
class ResponseRates:
    """Rates of one forecaster among the patients of one regimen, or of all.

    Attributes
    ----------
    regimen_id : str
        Empty for all.
    """

    forecaster: str
    regimen_id: str
    objective_response: RateComparison
    disease_control: RateComparison


def response_rates(
    truth: IntArray, forecasts: Mapping[str, IntArray], regimens: Sequence[str], weights: FloatArray
) -> tuple[ResponseRates, ...]:
    """Compare rates of all forecasters, over all patients and by regimen.

    Parameters
    ----------
    truth : array of int, (patients,)
        Index among `CLASSES`, -1 for not evaluable; such patients are left out on both sides.
    forecasts : mapping of forecaster to array of int, (patients,)
    regimens : sequence of str, (patients,)
    weights : array, (draws, patients)
        Of the bootstrap.
    """
    return tuple(_all_rates(truth, forecasts, np.array(regimens, dtype=np.str_), weights))


def _all_rates(
    truth: IntArray, forecasts: Mapping[str, IntArray], regimens: np.ndarray, weights: FloatArray
) -> Iterator[ResponseRates]:
    for name, said in forecasts.items():
        evaluable = (truth >= 0) & (said >= 0)
        groups = {"": evaluable} | {str(r): evaluable & (regimens == r) for r in np.unique(regimens)}
        for regimen_id, among in groups.items():
            if among.any():
                yield ResponseRates(
                    name,
                    regimen_id,
                    _compared(truth, said, among, weights, _LAST_RESPONSE),
                    _compared(truth, said, among, weights, _LAST_CONTROL),
                )


def _compared(
    truth: IntArray, said: IntArray, among: BoolArray, weights: FloatArray, last: int
) -> RateComparison:
    """Compare the rate of classes up to a place among `CLASSES`."""
    rate = objective_response_rate if last == _LAST_RESPONSE else disease_control_rate
    forecast, true = (rate([category_of(int(k)) for k in v[among]]) for v in (said, truth))
    statistics = [mean_of(np.where(among, v <= last, np.nan)) for v in (said, truth)]
    return RateComparison(forecast, true, difference(statistics[0], statistics[1], weights, among))
