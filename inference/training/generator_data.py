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

from inference.errors import TrainingDataError
from inference.models.flow.conditions import (
    SCALE,
    Prepared,
    Request,
    condition_vector,
    prepare,
    request_maps,
)
from inference.results import FloatArray
from inference.settings import Regimen
from inference.training.cohort import NO_VALUE, Cohort, FollowUpImages, PatientImages
from inference.training.cohort_rows import clinical_of
from inference.training.features import crop_of, lesion_ml
from inference.training.network_channels import drawn_images

_MOST_TRIES = 1000
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
    """Tensors of follow-ups of one patient, who is seen alike in all; boxes of patients differ in size."""

    fields: Tensor
    requests: Tensor
    conditions: Tensor
    fractions: Tensor
    change: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class View:
    """What of an example is seen: a window, and whether it is mirrored from back to front."""

    window: tuple[slice, slice, slice]
    mirrored: bool = False

    @classmethod
    def whole(cls, example: Example) -> View:
        """Return the view that a trained network has."""
        z, y, x = (slice(0, n) for n in example.prepared.lesion.shape)
        return cls((z, y, x))

    @classmethod
    def drawn(cls, example: Example, rng: np.random.Generator, size: int) -> View:
        """Return a window of at most a size around a random voxel of a lesion, mirrored or not.

        Boxes of large tumours take several times as long as a window of them, and teach no more.
        """
        lesion = example.prepared.lesion
        places = np.flatnonzero(lesion)
        centre = np.unravel_index(int(places[int(rng.integers(len(places)))]), lesion.shape)
        window = []
        for middle, extent in zip(centre, lesion.shape, strict=True):
            wanted = min(size, extent)
            start = min(max(int(middle) - wanted // 2, 0), extent - wanted)
            # Haar bands pair voxels: every window starts at the same parity.
            start -= start % 2
            window.append(slice(start, start + wanted))
        return cls((window[0], window[1], window[2]), bool(rng.integers(2)))

    def tensor(self, values: npt.NDArray[Any], device: torch.device, step: int = 1) -> Tensor:
        """Return a batch of one of an array (channels, z, y, x) whose voxels are `step` times as large."""
        z, y, x = (slice(s.start // step, s.stop // step) for s in self.window)
        seen = values[:, z, y, x]
        array = np.flip(seen, axis=-2) if self.mirrored else seen
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None].to(device)


def batch_of(
    example: Example,
    targets: Sequence[Target],
    conditions: Sequence[FloatArray],
    view: View,
    device: torch.device,
) -> Batch:
    """Return tensors of some follow-ups of a patient."""
    prepared = example.prepared
    seen = view.tensor(prepared.fields, device)
    return Batch(
        seen.expand(len(targets), *seen.shape[1:]),
        torch.cat([view.tensor(request_maps(prepared, t.request), device, 2) for t in targets]),
        torch.from_numpy(np.stack(conditions).astype(np.float32)).to(device),
        torch.cat([view.tensor(t.fractions, device) for t in targets]) / 255.0,
        torch.cat([view.tensor(t.change, device) for t in targets]),
        torch.cat([view.tensor(t.weight[None], device) for t in targets]),
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
        room: int = 3_000_000_000,
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
        found = example_of(
            drawn_images(cohort, key[1]), cohort.row(key[1]), cohort.info.modality, self._regimens
        )
        self._kept[key] = found
        self._bytes += _bytes(found)
        while self._bytes > self._room and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _bytes(gone)
        return found

    def drawn(self, rng: np.random.Generator, count: int) -> tuple[Example, tuple[Target, ...]]:
        """Return random follow-ups of a random patient, different ones where there are enough.

        Raises
        ------
        TrainingDataError
            No patient has one.
        """
        for _ in range(_MOST_TRIES):
            example = self.get(int(rng.integers(len(self.ids))))
            if example is not None:
                order = rng.permutation(len(example.targets))
                return example, tuple(example.targets[order[i % len(order)]] for i in range(count))
        raise TrainingDataError("hardly any patient of the cohort has a lesion and an imaged follow-up")


def typical_levels(examples: Examples, follow_ups: int = 60) -> FloatArray:
    """Return the levels, (8,), that best explain the changes of some follow-ups; see `network.Drawn`."""
    rng = np.random.default_rng(0)
    products, answers = 1e-4 * np.eye(4), np.zeros((4, 2))
    for _ in range(follow_ups):
        example, (target,) = examples.drawn(rng, 1)
        before = example.prepared.fields[3:6]
        after = target.fractions / np.float32(255.0)
        inside = ((before.sum(axis=0) + after.sum(axis=0)) > 0.02) & (target.weight > 0)
        seen = np.concatenate([after - before, after[:1]])[:, inside].astype(np.float64)
        if seen.shape[1]:
            products += seen @ seen.T / seen.shape[1]
            answers += seen @ target.change[:, inside].T.astype(np.float64) / seen.shape[1]
    return np.asarray(np.linalg.solve(products, answers).ravel())


def _bytes(example: Example | None) -> int:
    if example is None:
        return 0
    follow_ups = sum(t.fractions.nbytes + t.change.nbytes + t.weight.nbytes for t in example.targets)
    return example.prepared.fields.nbytes + follow_ups


def conditions_of(example: Example, target: Target) -> FloatArray:
    """Return the vector of conditions of a follow-up."""
    return condition_vector(example.prepared, target.regimen, target.months, target.request)
