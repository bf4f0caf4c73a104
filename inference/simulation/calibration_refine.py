"""Second step of the calibration: half-way towards what another population shows.

A fit to some hundred patients carries their accidents, and those of the few abdomens that they share.
A second population of the same size shows them; moving each parameter by half of what it misses there
weighs both populations alike. Slopes are those that the scattered fits show, averaged over the arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from inference.simulation.calibration import COMPARED, LONGEST_MONTHS, SHORTEST_MONTHS, Calibration
from inference.simulation.calibration_measure import Row
from inference.simulation.parameters import Found

_HALF = 0.5
_LOGIT_PER_LEVEL = 1.25
_LOG_MEDIAN_PER_LOG_CONTROL = 0.35


def refined(found: Found, rows: Sequence[Row]) -> Found:
    """Return a calibration moved half-way towards what a second population asks for.

    Parameters
    ----------
    rows : sequence of Row
        Figures of that population under `found`.
    """
    groups = {name: dict(values) for name, values in found.model_dump().items()}
    for row in rows:
        if row.topic == "response":
            group, key = Calibration.level_of(row.source, row.regimen)
            step = (_logit(row.target) - _logit(row.simulated)) / _LOGIT_PER_LEVEL
            groups[group][key] += _HALF * step
        elif row.topic == "progression":
            group, key = Calibration.control_of(row.source, row.regimen)
            step = math.log(row.target / row.simulated) / _LOG_MEDIAN_PER_LOG_CONTROL
            groups[group][key] *= math.exp(_HALF * step)
    # A technique is added to a level that its own arm has moved.
    moved = groups["intercept"]["tace"] - found.intercept["tace"]
    for source in groups["technique"]:
        groups["technique"][source] -= moved
    held = groups["control_months"]
    groups["hold"] = {s: v * found.control_months["tace"] / held["tace"] for s, v in groups["hold"].items()}
    for regimen, months in held.items():
        held[regimen] = min(max(months, SHORTEST_MONTHS), LONGEST_MONTHS)
    Calibration.share(groups["intercept"], held)
    _survival(groups, rows)
    return Found.model_validate(groups)


def _survival(groups: dict[str, dict[str, float]], rows: Sequence[Row]) -> None:
    """Move the hazards by the mean of what the logarithms of the cumulated ones miss."""
    alive = [r for r in rows if r.topic == "survival"]
    for source, regimen in dict.fromkeys((r.source, r.regimen) for r in alive):
        arm = [r for r in alive if (r.source, r.regimen) == (source, regimen)]
        step = _HALF * sum(_log_log(r.target) - _log_log(r.simulated) for r in arm) / len(arm)
        if regimen in COMPARED.get(source, ()):
            base = [r for r in alive if r.source == source and r.regimen != regimen]
            own = _HALF * sum(_log_log(r.target) - _log_log(r.simulated) for r in base) / len(base)
            groups["regimen_log_hazard"][regimen] += step - own
        else:
            groups["hazard"][source] *= math.exp(step)


def _logit(share: float) -> float:
    kept = min(max(share, 0.01), 0.99)
    return math.log(kept / (1.0 - kept))


def _log_log(share: float) -> float:
    return math.log(-math.log(min(max(share, 0.01), 0.99)))
