"""Parameters of the mechanistic model, validated as they are read from a bundle."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from inference.models.mechanistic.growth import FrontProfile
from inference.settings import Frozen


class Growth(Frozen):
    """Untreated growth: a Fisher-KPP front."""

    tvdt_months: float = Field(gt=0, description="median tumour volume doubling time")
    tvdt_log_sd: float = Field(ge=0)
    front_width_mm: float = Field(gt=0, description="sqrt(D / rho)")
    smallest_radius_mm: float = Field(gt=0, description="radius below which the front speed is held")


class Numerics(Frozen):
    """Grid and time step of the simulation."""

    spacing_mm: float = Field(gt=0)
    steps_per_month: int = Field(ge=1)
    horizon_months: int = Field(ge=1, le=24)
    margin_mm: float = Field(gt=0, description="room around the lesions for growth")


class Tolerance(Frozen):
    """Exposure that a piece of tissue survives: lognormal over space, median 1."""

    log_sd: float = Field(gt=0)
    kill_rate_per_day: float = Field(gt=0)
    sharpness: float = Field(gt=0, description="width of the switch between survival and death, log units")


class Delivery(Frozen):
    """How much of an arterial treatment reaches a piece of tissue: lognormal over space, median 1."""

    log_sd: float = Field(ge=0)
    correlation_diameters: float = Field(gt=0, description="correlation length over the largest diameter")
    correlation_mm: tuple[float, float] = Field(description="limits of the correlation length")
    rim: float = Field(ge=0, description="loss in log units at the tumour's edge, which portal blood feeds")
    rim_depth_mm: float = Field(gt=0)
    capsule: float = Field(
        ge=0, description="loss in log units under the liver's surface (parasitised supply)"
    )
    capsule_depth_mm: float = Field(gt=0)
    size_exponent: float = Field(ge=0, description="delivery falls as (diameter / reference)^-exponent")
    reference_mm: float = Field(gt=0)


class Component(Frozen):
    """One kind of treatment: how strong, how long, and how far it depends on delivery."""

    amplitude: float = Field(0.0, ge=0, description="exposure of the median patient, in median tolerances")
    onset_days: float = Field(ge=0, description="time constant of the onset")
    delay_days: float = Field(ge=0, description="no effect before")
    decay_days: float = Field(gt=0, description="time constant of the decline of each dose or of resistance")
    delivery_weight: float = Field(
        ge=0, le=1, description="0: reaches all tissue alike; 1: as the artery does"
    )
    growth_suppression: float = Field(ge=0, le=1, description="share of growth stopped at full exposure")
    sensitivity_log_sd: float = Field(ge=0, description="spread of sensitivity between patients")


class Clearance(Frozen):
    """Removal of treatment-induced necrosis, from its edge inwards. Necrosis at baseline stays."""

    rate_per_day: float = Field(ge=0)
    invasion_barrier: float = Field(ge=0, le=1, description="1: tumour cannot regrow into dead tissue")


class Lipiodol(Frozen):
    """Deposition and washout of iodised oil."""

    contrast_hu: float = Field(gt=0)
    saturation: float = Field(gt=0, description="largest deposit, in typical deposits")
    visible: float = Field(gt=0, description="deposit that reads as lipiodol on CT, in typical deposits")
    early_retention: float = Field(gt=0, le=1)
    early_days: float = Field(gt=0)
    half_life_days: float = Field(gt=0)
    half_life_viable_days: float = Field(gt=0)
    granularity: float = Field(ge=0, description="relative spread of the deposit over 2 to 4 mm")


class Contrast(Frozen):
    """Appearance of dead tissue on one phase."""

    necrosis_hu: float | None = Field(None, description="CT: Hounsfield units")
    necrosis_of_liver: float | None = Field(None, description="MR: intensity over that of the liver")
    lipiodol_of_liver: float | None = Field(None, description="MR: change at a typical deposit, over liver")


class RegimenTerms(Frozen):
    """What is known of one regimen."""

    interaction: float = Field(
        1.0, gt=0, description="factor on the exposure of all components but the leading one"
    )
    orr_target: float | None = Field(None, ge=0, le=1, description="published objective response rate")
    note: str = ""


class Calibrated(Frozen):
    """What the calibration found; `MechanisticParameters.calibrated` puts it in its place."""

    amplitudes: Mapping[str, float]
    interactions: Mapping[str, float]


class Ensemble(Frozen):
    """Patients that are sampled for the interval."""

    samples: int = Field(ge=10, le=200)
    shared_log_sd: float = Field(ge=0, description="spread of a sensitivity common to all components")
    regrowth_length_mm: float = Field(gt=0, description="half distance between surviving nodules")


class MechanisticParameters(Frozen):
    """All parameters of one bundle. `components` has a key for each field of `Regimen` that acts."""

    growth: Growth
    numerics: Numerics
    tolerance: Tolerance
    delivery: Delivery
    components: Mapping[str, Component]
    clearance: Clearance
    lipiodol: Lipiodol
    contrast: Mapping[str, Contrast]
    ensemble: Ensemble
    regimens: Mapping[str, RegimenTerms]

    def calibrated(self, found: Calibrated) -> MechanisticParameters:
        """Return the parameters with the amplitudes and interactions of a calibration."""
        components = {
            name: part.model_copy(update={"amplitude": found.amplitudes[name]})
            for name, part in self.components.items()
        }
        regimens = {
            name: terms.model_copy(update={"interaction": found.interactions.get(name, 1.0)})
            for name, terms in self.regimens.items()
        }
        return self.model_copy(update={"components": components, "regimens": regimens})

    @property
    def depth_limits_mm(self) -> tuple[float, float]:
        """Least and largest depth that the density of the front can tell."""
        return FrontProfile.of_width(self.growth.front_width_mm).limits_mm
