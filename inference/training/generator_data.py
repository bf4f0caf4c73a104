"""Examples for the networks: a baseline, a follow-up, and the request that the follow-up fulfils."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inference.models.flow.conditions import (
    SCALE,
    Prepared,
    Request,
    condition_vector,
    prepare,
    request_maps,
)
from inference.results import FloatArray, Voxels
from inference.settings import Regimen
from inference.training.cohort import NO_VALUE, Cohort, FollowUpImages, PatientImages
from inference.training.features import clinical_of, crop_of, lesion_ml

HalfFloats = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Target:
    """A true follow-up in the box of the lesions.

    Attributes
    ----------
    fractions : array of uint8, (3, z, y, x)
    change : array of float16, (2, z, y, x)
        In units of the modality's scale.
    weight : array of uint8, (z, y, x)
        1 where the follow-up is learned from; 0 in new lesions, whose place nothing foretells.
    request : the volumes that it has
    """

    fractions: npt.NDArray[np.uint8]
    change: HalfFloats
    weight: npt.NDArray[np.uint8]
    request: Request
    regimen: Regimen
    months: float


@dataclass(frozen=True, slots=True)
class Example:
    """A patient with imaged follow-ups."""

    prepared: Prepared
    targets: tuple[Target, ...]


def example_of(
    patient: PatientImages, row: Mapping[str, Any], modality: str, regimens: Mapping[str, Regimen]
) -> Example | None:
    """Return the example of a patient, None where nothing can be learned from the images."""
    crop = crop_of(patient)
    if not crop.lesion.any():
        return None
    prepared = prepare(crop, clinical_of(row), modality)
    base = patient.images if patient.clean is None else patient.clean
    targets = tuple(
        _target(seen, base, prepared, regimens[seen.regimen_id])
        for seen in patient.follow_ups
        if seen.regimen_id in regimens
    )
    return Example(prepared, targets) if targets else None


def _target(
    seen: FollowUpImages, base: npt.NDArray[np.int16], prepared: Prepared, regimen: Regimen
) -> Target:
    inside = (slice(None), *prepared.box)
    now, before = seen.images[inside], base[inside]
    known = (now != NO_VALUE) & (before != NO_VALUE)
    difference = (now.astype(np.float32) - before) / np.float32(SCALE[prepared.modality])
    volumes = lesion_ml(seen.fractions, seen.lesion)
    numbers = np.flatnonzero(prepared.total_ml > 0).tolist()
    parts = [{int(n): float(volumes[n, k]) if n < len(volumes) else 0.0 for n in numbers} for k in range(3)]
    new = [
        float(volumes[n, 0]) for n in range(1, len(volumes)) if n not in numbers and volumes[n].sum() > 0.01
    ]
    lesion = seen.lesion[prepared.box]
    weight = ~((lesion > 0) & ~np.isin(lesion, numbers))
    return Target(
        seen.fractions[inside],
        np.where(known, np.clip(difference, -6.0, 8.0), 0.0).astype(np.float16),
        weight.astype(np.uint8),
        Request(parts[0], parts[1], parts[2], tuple(new)),
        regimen,
        seen.months,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one example; a batch of one, because boxes differ in size."""

    fields: Tensor
    requests: Tensor
    conditions: Tensor
    fractions: Tensor
    change: Tensor
    weight: Tensor


def batch_of(
    example: Example,
    target: Target,
    conditions: FloatArray,
    mirrored: bool,
    device: torch.device,
) -> Batch:
    """Return tensors of a follow-up, mirrored in the back-to-front axis or not."""
    prepared = example.prepared

    def tensor(values: Voxels | npt.NDArray[Any]) -> Tensor:
        array = np.flip(values, axis=-2) if mirrored else values
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None].to(device)

    return Batch(
        tensor(prepared.fields),
        tensor(request_maps(prepared, target.request)),
        torch.from_numpy(conditions.astype(np.float32))[None].to(device),
        tensor(target.fractions) / 255.0,
        tensor(target.change),
        tensor(target.weight[None]),
    )


class Examples:
    """Examples of some patients, read when they are first drawn and kept while there is room.

    Parameters
    ----------
    ids : sequence of (cohort number, patient)
    room : int
        Bytes of examples that are kept in memory.
    """

    def __init__(
        self,
        cohorts: Sequence[Cohort],
        ids: Sequence[tuple[int, str]],
        regimens: Mapping[str, Regimen],
        room: int = 2_000_000_000,
    ) -> None:
        self._cohorts, self._regimens, self._room = cohorts, regimens, room
        self.ids = tuple(ids)
        self._kept: OrderedDict[tuple[int, str], Example | None] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.ids)

    def get(self, index: int) -> Example | None:
        """Return an example, None where the patient has no follow-up to learn from."""
        key = self.ids[index]
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        cohort = self._cohorts[key[0]]
        found = example_of(cohort.images(key[1]), cohort.row(key[1]), cohort.info.modality, self._regimens)
        self._kept[key] = found
        self._bytes += _bytes(found)
        while self._bytes > self._room and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _bytes(gone)
        return found

    def drawn(self, rng: np.random.Generator) -> tuple[Example, Target]:
        """Return a random follow-up of a random patient."""
        while True:
            example = self.get(int(rng.integers(len(self.ids))))
            if example is not None:
                return example, example.targets[int(rng.integers(len(example.targets)))]


def _bytes(example: Example | None) -> int:
    if example is None:
        return 0
    follow_ups = sum(t.fractions.nbytes + t.change.nbytes + t.weight.nbytes for t in example.targets)
    return example.prepared.fields.nbytes + follow_ups


def conditions_of(example: Example, target: Target) -> FloatArray:
    """Return the vector of conditions of a follow-up."""
    return condition_vector(example.prepared, target.regimen, target.months, target.request)
