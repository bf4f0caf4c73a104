"""Parameters of the simulated disease: tables, what the calibration found, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import yaml
from pydantic import Field

from inference.errors import TrainingDataError
from inference.settings import Frozen, Regimen

PACKAGE = "inference.simulation"
TABLES, FOUND, SHIFTED, DIGEST = (
    "parameters.yaml",
    "calibrated.json",
    "shifted.yaml",
    "parameters.sha256",
)

SIMULATOR_VERSION = "1"
"""Changes when code changes patients of the same parameters; part of the digest."""

Pair = tuple[float, float]
Loadings = tuple[float, float, float, float]
"""On aggressiveness, vascularity, liver reserve and immunogenicity."""
Quantiles = tuple[Pair, ...]
"""(probability, value), both ascending."""


class Source(Frozen):
    """Where patients come from: one publication's table of covariates."""

    n: int = Field(gt=0)
    regimens: tuple[str, ...]
    citation: str
    recalled: bool = Field(False, description="covariates from memory of the publication; no target")
    note: str = ""
    age: Pair
    male: float
    ecog1: float
    diabetes: float
    hbv: float
    hcv: float
    cirrhosis: float
    ascites: float
    diameter_mm: Quantiles
    number: tuple[float, float, float, float]
    vascular_invasion: float
    metastasis: float
    lymph_nodes: float
    capsule: float
    diffuse: float
    vp_major: float = Field(0.55, description="Vp3 among those with thrombus")
    vp4: float = Field(0.20, description="Vp4 among those with thrombus")
    albumin: Pair
    alt: Pair
    ast: Pair
    bilirubin: Pair
    prothrombin_time: Pair
    inr: Pair
    platelets: Pair
    afp: Quantiles


class Growth(Frozen):
    """Untreated growth."""

    tvdt_months: Quantiles
    front_width_mm: float = Field(gt=0)
    smallest_radius_mm: float = Field(gt=0)
    largest_radius_mm: float = Field(gt=0, description="above, the front keeps its speed")
    necrosis_share: float = Field(ge=0, le=1)


class Tumours(Frozen):
    """Number and shape."""

    largest_number: int = Field(ge=1, le=20)
    floor_mm: float
    satellite_exponent: float
    roughness: float
    infiltrative_roughness: float
    infiltrative_blur_mm: float


class Tolerance(Frozen):
    """How the level that tissue survives varies over a tumour, in its standard deviations."""

    territory: float
    smooth: float
    rim: float
    rim_depth_mm: float
    vessel: float
    vessel_mm: float
    territory_mm: float


Predictors = tuple[float, float, float, float, float, float, float, float]
"""Latents (4), log(diameter / 60 mm), infiltrative, thrombus, capsule."""


class Treatment(Frozen):
    """What decides the level that a treatment reaches, and how long it holds."""

    predictors: Mapping[str, Predictors]
    shared_sd: float
    own_sd: Mapping[str, float]
    lesion_sd: float
    smallest_nodule_mm: float = Field(description="what survives below this size dies too: it is not fed")
    session_gap: float
    suppression: float
    after_control: float
    control_log_sd: float
    control_aggressiveness: float
    control_level: float
    clearance_mm_per_month: Pair
    clearance_lipiodol: float


class Lipiodol(Frozen):
    """Iodised oil."""

    contrast_hu: Pair
    contrast_limits_hu: Pair
    retention: Pair
    half_life_months: float
    live_half_life_months: float
    granularity: float
    saturation: float
    visible: float


class NewLesions(Frozen):
    """Tumours that were not there."""

    rate_per_month: float
    aggressiveness: float
    number: float
    infiltrative: float
    systemic_control: float
    seen_mm: float
    largest_count: int


class Progression(Frozen):
    """Progression outside the liver, which no image of it shows."""

    extrahepatic_per_month: float
    aggressiveness: float
    metastasis: float


class Survival(Frozen):
    """Log hazards of death."""

    burden: float
    albi: float
    thrombus: float
    metastasis: float
    aggressiveness: float
    ascites: float
    frailty_sd: float
    capacity_ml: float
    later_growth: float
    follow_up_months: Pair


class Found(Frozen):
    """What the calibration found.

    Attributes
    ----------
    intercept : level of each regimen in the reference patient
    technique : added to it at each source
    control_months : median time for which a regimen holds the disease
    hold : factor on that time at each source
    hazard : deaths per month of the reference patient of each source
    shape : of the Weibull hazard in time
    regimen_log_hazard : what a regimen does to survival beside its effect on the tumour
    """

    intercept: Mapping[str, float]
    technique: Mapping[str, float] = {}
    control_months: Mapping[str, float]
    hold: Mapping[str, float] = {}
    hazard: Mapping[str, float]
    shape: Mapping[str, float]
    regimen_log_hazard: Mapping[str, float] = {}


class SimulationParameters(Frozen):
    """All parameters of one simulator."""

    sources: Mapping[str, Source]
    loadings: Mapping[str, Loadings]
    missing: Mapping[str, float]
    growth: Growth
    tumours: Tumours
    tolerance: Tolerance
    treatment: Treatment
    lipiodol: Lipiodol
    new_lesions: NewLesions
    progression: Progression
    survival: Survival
    found: Found

    def with_found(self, found: Found) -> SimulationParameters:
        """Return the parameters with another calibration."""
        return self.model_copy(update={"found": found})


def _read(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8")


def _merged(base: object, over: object) -> object:
    if isinstance(base, dict) and isinstance(over, dict):
        return {key: _merged(base.get(key), over.get(key, base.get(key))) for key in {**base, **over}}
    return over


def load_parameters(overrides: str | None = None) -> SimulationParameters:
    """Read the parameters that ship with the product.

    Parameters
    ----------
    overrides : str, optional
        Another table of this package whose values replace those of the first, such as `SHIFTED`.

    Raises
    ------
    TrainingDataError
        A table cannot be read.
    """
    try:
        tables = yaml.safe_load(_read(TABLES))
        tables["found"] = json.loads(_read(FOUND))
        if overrides is not None:
            tables = _merged(tables, yaml.safe_load(_read(overrides)))
        return SimulationParameters.model_validate(tables)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TrainingDataError(f"the parameters of the simulation cannot be read: {error}") from error


def parameters_digest() -> str:
    """Return the SHA-256 over the simulator's version, the tables and the calibration of the package."""
    total = hashlib.sha256(SIMULATOR_VERSION.encode() + b"\0")
    for name in (TABLES, FOUND, SHIFTED):
        total.update(name.encode() + b"\0" + _read(name).encode("utf-8"))
    return total.hexdigest()


def frozen_digest() -> str:
    """Return the digest that was written when the parameters were frozen."""
    return _read(DIGEST).split()[0]


def write_found(found: Found, folder: Path) -> Path:
    """Write a calibration into a folder."""
    rounded = {
        group: {k: round(float(v), 4) for k, v in sorted(values.items())}
        for group, values in found.model_dump().items()
    }
    path = folder / FOUND
    path.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")
    return path


def freeze(found: Found) -> str:
    """Write a calibration into the package and freeze it by its digest, which is returned.

    Needs an installation that can be written to, as a checkout is.

    Raises
    ------
    TrainingDataError
        The installation cannot be written to.
    """
    folder = Path(str(resources.files(PACKAGE)))
    try:
        write_found(found, folder)
        digest = parameters_digest()
        (folder / DIGEST).write_text(digest + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingDataError("the calibration cannot be written into the installation") from error
    return digest


CONTROL_ARM = Regimen(id="lenvatinib", name="Lenvatinib", tki=1.0, source="LAUNCH, control arm")
"""The control arm of LAUNCH: for calibration only."""
