"""What an evaluation is told: draws, horizons, groups."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from inference.evaluation.bootstrap import DRAWS
from inference.evaluation.predictions.survival_file import HORIZONS
from inference.settings import Frozen


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values or list(values) != sorted(set(values)) or values[0] <= 0:
        raise ValueError("months must be above 0 and rise")
    return values


class EvaluationPlan(Frozen):
    """How predictions are measured."""

    draws: int = Field(DRAWS, ge=20, description="resamples of the bootstrap")
    seed: int = Field(0, ge=0)
    horizons: Annotated[tuple[float, ...], AfterValidator(_rising)] = Field(
        HORIZONS, description="months at which probabilities are measured"
    )
    risk_groups: int = Field(2, ge=2, le=4, description="groups of equal size in the validation part")
    fewest_events: int = Field(10, ge=2, description="below this a group of patients is not measured")
    fewest_at_risk: int = Field(10, ge=1, description="patients who must be followed to a horizon")
    subgroups: tuple[str, ...] = Field(
        (), description="columns that form subgroups; without any, age and all columns of a few values"
    )

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Probabilities of the event at which treatment would begin, for decision curves."""
        return tuple(k / 20 for k in range(1, 20))
