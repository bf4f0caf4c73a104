"""How good a registration of two livers is, and how good it has to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from inference.results import FloatArray, Grid
from inference.settings import Frozen


class RegistrationLimits(Frozen):
    """A pair outside these is left out of the cohort."""

    dice_at_least: float = Field(0.85, description="of the livers, after registration")
    surface_at_most_mm: float = Field(4.0, description="mean distance of the liver surfaces")
    residual_at_most: float = Field(
        0.25, description="mean absolute difference of the parenchyma, in widths of the liver's window"
    )
    jacobian_at_least: float = Field(0.2, description="smallest local change of volume in the liver")
    folding_at_most: float = Field(0.0, description="share of the liver whose mapping folds")
    lesion_volume_within: float = Field(
        0.1, description="lesion volume in the resampled images against that on the follow-up's own grid"
    )


@dataclass(frozen=True, slots=True)
class RegistrationQuality:
    """Quality of one registration, measured on its grid.

    Attributes
    ----------
    dice_before, dice_rigid, dice : of the livers: in scanner space, after the rigid part, at the end
    surface_mm : mean symmetric distance of the liver surfaces
    residual : mean absolute difference of the parenchyma after its medians are made equal, in widths of
        the window that is looked at
    jacobian_min, jacobian_max : determinant of the mapping's gradient in the liver
    folding : share of the liver where it is not positive
    """

    dice_before: float
    dice_rigid: float
    dice: float
    surface_mm: float
    residual: float
    jacobian_min: float
    jacobian_max: float
    folding: float

    def failures(self, limits: RegistrationLimits) -> tuple[str, ...]:
        """Return one sentence for each limit that is not kept."""
        wrong: list[str] = []
        if self.dice < limits.dice_at_least:
            wrong.append(
                f"the livers overlap with a Dice of {self.dice:.2f} (at least {limits.dice_at_least:g})"
            )
        if self.surface_mm > limits.surface_at_most_mm:
            wrong.append(
                f"the liver surfaces are {self.surface_mm:.1f} mm apart "
                f"(at most {limits.surface_at_most_mm:g} mm)"
            )
        if self.residual > limits.residual_at_most:
            wrong.append(
                f"the parenchyma differs by {self.residual:.2f} of its window "
                f"(at most {limits.residual_at_most:g})"
            )
        if self.folding > limits.folding_at_most:
            wrong.append(f"the mapping folds in {self.folding:.2%} of the liver")
        elif self.jacobian_min < limits.jacobian_at_least:
            wrong.append(
                f"the mapping compresses by a Jacobian of {self.jacobian_min:.2f} "
                f"(at least {limits.jacobian_at_least:g})"
            )
        return tuple(wrong)


def jacobian(mapped_mm: FloatArray, grid: Grid) -> FloatArray:
    """Return the determinant of the gradient of a mapping on an aligned grid, (z, y, x)."""
    spacing = grid.spacing_mm[0]
    # Array axes are z, y, x; components and derivatives are in the order x, y, z.
    slopes = [np.stack(np.gradient(c, spacing)[::-1], axis=-1) for c in mapped_mm]
    return np.asarray(np.linalg.det(np.stack(slopes, axis=-2)))
