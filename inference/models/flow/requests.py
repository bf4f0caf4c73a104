"""From a sampled outcome of the patient to the volumes of each lesion."""

from __future__ import annotations

import numpy as np

from inference.models.flow.conditions import Prepared, Request
from inference.models.outcome.model import FLOOR, Noise, OutcomeModel
from inference.results import FloatArray
from inference.settings import Regimen

_SMALLEST_ML = 0.01
_MOST_NEW = 0.9
LARGEST = 0.9
"""Most of the liver that can be viable tumour."""


def request_of(
    model: OutcomeModel, x: FloatArray, prepared: Prepared, regimen: Regimen, months: float, noise: Noise
) -> Request:
    """Return the request of the first sample at a month.

    The patient's totals are those of the outcome model; lesions share them by their size and by
    their own normal numbers, which are the same at all months and under all regimens.
    """
    sampled = model.outcomes(x, regimen, months, noise)
    numbers = np.flatnonzero(prepared.total_ml > 0)
    base, total = prepared.viable_ml[numbers], prepared.total_ml[numbers]
    viable_ml = min(float(sampled.viable[0]) * float(base.sum()), LARGEST * prepared.liver_ml)
    new = new_volumes(model, int(sampled.new_lesions[0]), months, noise.lesion[0])
    most = _MOST_NEW * viable_ml
    if sum(new) > most:
        new = tuple(v * most / sum(new) for v in new)
    new = tuple(v for v in new if v > _SMALLEST_ML)
    ratio = float(sampled.viable[0])
    size = np.log(np.maximum(base, 1e-3))
    slope = float(model.arrays["lesion_slope"][0])
    own = slope * (size - size.mean()) + model.settings.lesion_sd * noise.lesion[0][numbers]
    each = np.maximum(np.exp(np.log(ratio + FLOOR) + (own if len(numbers) > 1 else 0.0 * own)) - FLOOR, 0.0)
    viable = _shared_out(viable_ml - sum(new), base * each, base)
    lost = np.maximum(total - viable, 0.0) + 0.05 * total
    dead_ml = float(sampled.necrosis[0]) * float(total.sum())
    oil_ml = float(sampled.lipiodol[0]) * float(total.sum())
    # What is dead has to find room beside what lives.
    room = min((prepared.liver_ml - viable_ml) / max(dead_ml + oil_ml, 1e-9), 1.0)
    dead, oil = (_shared_out(room * ml, lost, total) for ml in (dead_ml, oil_ml))
    return Request(
        {int(n): float(v) if v > _SMALLEST_ML else 0.0 for n, v in zip(numbers, viable, strict=True)},
        {int(n): float(v) for n, v in zip(numbers, dead, strict=True)},
        {int(n): float(v) for n, v in zip(numbers, oil, strict=True)},
        new,
    )


def _shared_out(volume: float, weights: FloatArray, otherwise: FloatArray) -> FloatArray:
    """Divide a volume in proportion to weights, or to other ones where all weights are 0."""
    used = weights if weights.sum() > 1e-9 else otherwise
    return np.asarray(max(volume, 0.0) * used / max(float(used.sum()), 1e-9))


def new_volumes(model: OutcomeModel, count: int, months: float, normal: FloatArray) -> tuple[float, ...]:
    """Return the volumes of new lesions in ml; each keeps its own normal number over time."""
    mean, slope, deviation = model.settings.new_lesion_log_ml
    late = np.log(max(months, 0.5) / 3.0)
    return tuple(
        float(np.exp(mean + slope * late + deviation * normal[255 - i])) for i in range(min(count, 16))
    )
