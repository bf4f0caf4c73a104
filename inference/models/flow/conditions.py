"""What the network is told: the baseline as fields, the request as maps, regimen and patient as a vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from inference.case import ClinicalRecord
from inference.clinical.variables import VARIABLES, Kind
from inference.errors import ModelError
from inference.models.flow.network import MULTIPLE, REQUEST_FLOOR
from inference.models.outcome.crops import SPACING_MM, VIABLE, VOXEL_ML, PatientCrop, lesion_volumes
from inference.models.outcome.doses import DOSE_NAMES, doses_given
from inference.results import FloatArray, Labels, Voxels
from inference.settings import Regimen

SCALE: Mapping[str, float] = {"CT": 100.0, "MR": 300.0}
"""One unit of the network's images and changes, in HU or thousandths of the liver's intensity."""

CLINICAL: Mapping[str, tuple[float, float]] = {
    "age": (60.0, 12.0),
    "ecog": (0.4, 0.6),
    "cirrhosis": (0.6, 0.5),
    "hepatitis_b": (0.6, 0.5),
    "ascites": (0.2, 0.5),
    "child_pugh_score": (5.7, 1.0),
    "tumour_number": (2.5, 2.0),
    "largest_tumour": (75.0, 40.0),
    "capsule": (0.5, 0.5),
    "diffuse_type": (0.1, 0.4),
    "portal_vein_thrombosis": (0.3, 0.5),
    "afp": (5.0, 3.0),
    "albumin": (38.0, 5.0),
    "bilirubin": (2.8, 0.5),
    "platelets": (160.0, 80.0),
    "inr": (1.1, 0.15),
}
"""Clinical variables of the vector with the centre and scale that they are brought to."""

_LOGARITHMIC = frozenset({"afp", "bilirubin"})
_REACH_MM = 20.0
_AROUND_VOXELS = 8

CONDITIONS = len(DOSE_NAMES) + 2 + 4 + 3 + 2 * len(CLINICAL) + 1
"""Length of the vector: doses, time, outcome, modality and phases, clinical values with flags, dropout."""


@dataclass(frozen=True, slots=True)
class Request:
    """Volumes in ml that a drawn follow-up has to have, for each lesion of the baseline.

    Attributes
    ----------
    viable, necrosis, lipiodol : mapping of lesion number to ml
    new_ml : tuple
        Viable volume of each new lesion.
    """

    viable: Mapping[int, float]
    necrosis: Mapping[int, float]
    lipiodol: Mapping[int, float]
    new_ml: tuple[float, ...] = ()

    @property
    def viable_ml(self) -> float:
        """Viable tumour of all lesions, new ones included."""
        return sum(self.viable.values()) + sum(self.new_ml)

    @property
    def total_ml(self) -> float:
        """Tumour of all lesions, new ones included."""
        return self.viable_ml + sum(self.necrosis.values()) + sum(self.lipiodol.values())


@dataclass(frozen=True, slots=True)
class Prepared:
    """A baseline as the network needs it, once for all regimens, months and samples.

    Attributes
    ----------
    box : slices
        The part of the crop around the lesions; extents are multiples of `MULTIPLE`.
    fields : array of float32, (6, z, y, x)
        In the box: two phases less the liver's level, liver, three fractions.
    nearest : array of uint8, (z, y, x)
        In the box: number of the nearest lesion within 20 mm, 0 elsewhere.
    lesion : array of uint8, (z, y, x)
        In the box: as in the crop.
    level : the liver's level in each phase, (2,)
    acquired : whether each phase was acquired, (2,)
    viable_ml, total_ml : baseline volume of each lesion number, (256,)
    liver_ml : volume of the liver with tumours: no tumour in it is larger
    clinical : array, (2 * clinical variables,)
    """

    box: tuple[slice, slice, slice]
    fields: Voxels
    nearest: Labels
    lesion: Labels
    level: FloatArray
    acquired: FloatArray
    viable_ml: FloatArray
    total_ml: FloatArray
    liver_ml: float
    clinical: FloatArray
    modality: str


def prepare(crop: PatientCrop, clinical: ClinicalRecord, modality: str) -> Prepared:
    """Prepare a baseline.

    Raises
    ------
    ModelError
        The crop has no liver, or the modality is neither CT nor MR.
    """
    if modality not in SCALE:
        raise ModelError(f"the generator draws CT and MR, not {modality}")
    liver = crop.liver >= 0.5
    if not liver.any():
        raise ModelError("the crop of the liver is empty")
    box = focus(crop.lesion if crop.lesion.any() else liver.astype(np.uint8))
    background = liver & ~ndimage.binary_dilation(crop.tumour, iterations=2)
    where = background if background.any() else liver
    level = np.zeros(2)
    acquired = np.zeros(2)
    images = np.zeros_like(crop.images)
    for phase, image in enumerate(crop.images):
        known = np.isfinite(image)
        if (known & where).any():
            level[phase] = float(np.median(image[known & where]))
            acquired[phase] = 1.0
            scaled = (image - np.float32(level[phase])) / np.float32(SCALE[modality])
            images[phase] = np.where(known, np.clip(scaled, -4.0, 6.0), 0.0)
    fields = np.concatenate([images, crop.liver[None], crop.fractions])
    lesion = np.ascontiguousarray(crop.lesion[box])
    volumes = lesion_volumes(crop.fractions, crop.lesion)
    return Prepared(
        box,
        np.ascontiguousarray(fields[(slice(None), *box)], dtype=np.float32),
        nearest_lesion(lesion),
        lesion,
        level,
        acquired,
        volumes[:, VIABLE],
        volumes.sum(axis=1),
        float(crop.liver.sum(dtype=np.float64)) * VOXEL_ML,
        clinical_vector(clinical),
        modality,
    )


def focus(lesion: Labels) -> tuple[slice, slice, slice]:
    """Return the box of the lesions and their surroundings, widened to multiples of `MULTIPLE`."""
    found = ndimage.find_objects((lesion > 0).astype(np.uint8))[0]
    slices = []
    for axis, extent in zip(found, lesion.shape, strict=True):
        wanted = math.ceil((axis.stop - axis.start + 2 * _AROUND_VOXELS) / MULTIPLE) * MULTIPLE
        wanted = min(wanted, extent)
        start = min(max((axis.start + axis.stop - wanted) // 2, 0), extent - wanted)
        # Haar bands pair voxels: every box of a crop starts at the same parity.
        start -= start % 2
        slices.append(slice(start, start + wanted))
    return slices[0], slices[1], slices[2]


def nearest_lesion(lesion: Labels) -> Labels:
    """Return the number of the nearest lesion within reach of each voxel, 0 elsewhere."""
    if not lesion.any():
        return np.zeros_like(lesion)
    distance, index = ndimage.distance_transform_edt(lesion == 0, return_indices=True)
    return np.where(distance * SPACING_MM <= _REACH_MM, lesion[tuple(index)], 0).astype(np.uint8)


def clinical_vector(clinical: ClinicalRecord) -> FloatArray:
    """Return standardised clinical values, 0 where missing, and flags of what is missing."""
    values, missing = [], []
    for name, (centre, scale) in CLINICAL.items():
        given = clinical.values.get(name)
        missing.append(float(given is None))
        if given is None:
            values.append(0.0)
            continue
        variable = VARIABLES[name]
        if variable.kind is Kind.CATEGORY:
            number = float(variable.categories.index(str(given.value)))
        else:
            number = float(given.value)
        number = math.log(max(number, 0.1)) if name in _LOGARITHMIC else number
        values.append(float(np.clip((number - centre) / scale, -4.0, 4.0)))
    return np.array([*values, *missing])


def request_maps(prepared: Prepared, request: Request) -> Voxels:
    """Return the request painted on the surroundings of each lesion, (4, z/2, y/2, x/2)."""
    table = np.zeros((4, 256), dtype=np.float32)
    for number, viable in request.viable.items():
        base_viable = max(float(prepared.viable_ml[number]), 1e-3)
        base_total = max(float(prepared.total_ml[number]), 1e-3)
        dead, oil = request.necrosis.get(number, 0.0), request.lipiodol.get(number, 0.0)
        table[:, number] = (
            math.log(viable / base_viable + REQUEST_FLOOR) + 1.5,
            dead / base_total,
            oil / base_total,
            math.log((viable + dead + oil) / base_total + REQUEST_FLOOR),
        )
    np.clip(table, -4.0, 4.0, out=table)
    return np.ascontiguousarray(table[:, prepared.nearest[::2, ::2, ::2]])


def condition_vector(prepared: Prepared, regimen: Regimen, months: float, request: Request) -> FloatArray:
    """Return the vector of conditions, (CONDITIONS,)."""
    base_viable = max(float(prepared.viable_ml.sum()), 1e-3)
    base_total = max(float(prepared.total_ml.sum()), 1e-3)
    outcome = (
        math.log(sum(request.viable.values()) / base_viable + REQUEST_FLOOR) + 1.5,
        sum(request.necrosis.values()) / base_total,
        sum(request.lipiodol.values()) / base_total,
        len(request.new_ml) / 2.0,
    )
    return np.concatenate(
        [
            doses_given(regimen, months),
            [months / 12.0, math.log1p(months) - 1.4],
            np.clip(outcome, -4.0, 4.0),
            [float(prepared.modality == "MR")],
            prepared.acquired,
            prepared.clinical,
            [0.0],
        ]
    )


def without_condition(vector: FloatArray) -> FloatArray:
    """Return the vector of a patient about whom nothing but the baseline image is told."""
    out = np.zeros_like(vector)
    kept = len(DOSE_NAMES) + 2 + 4
    out[kept : kept + 3] = vector[kept : kept + 3]
    out[-1] = 1.0
    return out


def as_tensor(array: Voxels | FloatArray, device: torch.device) -> Tensor:
    """Return a batch of one, in single precision."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None].to(device)
