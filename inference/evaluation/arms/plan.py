"""What is compared, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from inference.evaluation.bootstrap import DRAWS
from inference.evaluation.predictions.models import Arm
from inference.training.survival.fit import SurvivalSettings

ARMS = (Arm.CLINICAL, Arm.BASELINE_IMAGES, Arm.REAL_FOLLOW_UP, Arm.VIRTUAL)
"""Order of the tables; later arms are compared with earlier ones."""
TITLES: Mapping[Arm, str] = {
    Arm.CLINICAL: "clinical",
    Arm.BASELINE_IMAGES: "clinical + baseline images",
    Arm.REAL_FOLLOW_UP: "clinical + baseline + real follow-up",
    Arm.VIRTUAL: "clinical + baseline + virtual follow-up",
}
SHORT: Mapping[Arm, str] = {
    Arm.CLINICAL: "clinical",
    Arm.BASELINE_IMAGES: "baseline images",
    Arm.REAL_FOLLOW_UP: "real follow-up",
    Arm.VIRTUAL: "virtual follow-up",
}
"""For differences, where the long titles would read as sums."""
VIRTUAL_MONTHS = (1.0, 3.0, 6.0)
"""Months of virtual images for forecasts from the start of treatment, those of a study that arrives."""
_LIMITS_UNUSED = 1
"""Bootstrap samples of each survival model: they make its limits, which no measure of the arms reads."""


class Origin(StrEnum):
    """From when patients are followed."""

    TREATMENT = "treatment"
    LANDMARK = "landmark"


ORIGIN_TITLES: Mapping[Origin, str] = {
    Origin.TREATMENT: "From the start of treatment",
    Origin.LANDMARK: "From the follow-up image",
}


@dataclass(frozen=True, slots=True)
class ArmsPlan:
    """How much is computed.

    Attributes
    ----------
    patients : int
        Test patients of each cohort, at most.
    months : tuple of float
        Of the virtual images that forecasts from the start of treatment use.
    landmark_months : float or None
        Month from which patients with a real follow-up are followed; None: each from the month of the
        first real follow-up image.
    folds : int
        Of the cross-validation within the test patients.
    """

    patients: int = 1_000_000
    months: tuple[float, ...] = VIRTUAL_MONTHS
    landmark_months: float | None = None
    folds: int = 5
    draws: int = DRAWS
    seed: int = 0
    survival: SurvivalSettings = field(default_factory=lambda: SurvivalSettings(draws=_LIMITS_UNUSED))


def with_steps(steps: int) -> SurvivalSettings:
    """Return the settings of the survival models with so many steps of their networks at most."""
    settings = SurvivalSettings(draws=_LIMITS_UNUSED)
    return replace(settings, networks=replace(settings.networks, steps=steps))
