"""Slices and clinical values of a cohort's patients as the networks of `cohort_networks` take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from inference.errors import TrainingDataError
from inference.models.protocols import Progress
from inference.models.second_opinions.clinical_inputs import ClinicalScale
from inference.models.second_opinions.cohort_networks import Inputs
from inference.models.second_opinions.tumour_slices import TumourSlice, tumour_slice
from inference.training.cohort import Cohort
from inference.training.cohort_rows import clinical_of
from inference.training.features import crop_of
from inference.training.network_channels import drawn_images


@dataclass(frozen=True, slots=True)
class CohortSlices:
    """Slices of patients with tumour, by patient."""

    slices: dict[str, TumourSlice]

    def filled(self, ids: Sequence[str], side: int) -> CohortSlices:
        """Return slices of all of `ids`; who has none gets an empty slice, so that all are measured."""
        empty = TumourSlice(np.zeros((2, side, side), np.float32), np.zeros(2, dtype=bool))
        return CohortSlices({p: self.slices.get(p, empty) for p in ids})

    def inputs(self, cohort: Cohort, ids: Sequence[str], scale: ClinicalScale) -> Inputs:
        """Return the inputs of patients who have a slice."""
        values = [scale.apply(clinical_of(cohort.row(p))) for p in ids]
        side = len(scale.names)
        seen = [self.slices[p] for p in ids]
        return Inputs(
            torch.from_numpy(np.stack([s.images for s in seen])).float(),
            torch.from_numpy(np.stack([s.acquired for s in seen])),
            torch.from_numpy(np.stack([v for v, _known in values]).reshape(-1, side)).float(),
            torch.from_numpy(np.stack([k for _value, k in values]).reshape(-1, side)),
        )


def cohort_slices(
    cohort: Cohort, ids: Sequence[str], side: int, kept: Path | None, progress: Progress
) -> CohortSlices:
    """Cut the slices of patients; those without tumour, or without either phase, have none.

    Parameters
    ----------
    kept : Path or None
        A file from which slices of the same patients and cohort are read, and to which they are written.

    Raises
    ------
    TrainingDataError
        Images cannot be read.
    """
    belongs = f"{cohort.info.sha256} {side} {len(ids)} {_digest_of(ids)}"
    if kept is not None and kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            if str(stored["belongs"]) == belongs:
                return _read(stored)
    found: dict[str, TumourSlice] = {}
    for count, patient_id in enumerate(ids):
        progress("cutting slices", count / max(len(ids), 1))
        cut = tumour_slice(crop_of(drawn_images(cohort, patient_id)), cohort.info.modality, side)
        if cut is not None and cut.acquired.any():
            found[patient_id] = cut
    if kept is not None and found:
        _write(kept, belongs, found)
    return CohortSlices(found)


def _digest_of(ids: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()


def _read(stored: np.lib.npyio.NpzFile) -> CohortSlices:
    try:
        rows = zip(stored["ids"].tolist(), stored["images"], stored["acquired"], strict=True)
        return CohortSlices({str(p): TumourSlice(i.astype(np.float32), a) for p, i, a in rows})
    except (KeyError, ValueError) as error:
        raise TrainingDataError("the kept slices cannot be read; delete them") from error


def _write(path: Path, belongs: str, found: dict[str, TumourSlice]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez(
            stream,
            belongs=np.array(belongs),
            ids=np.array(list(found)),
            images=np.stack([s.images for s in found.values()]).astype(np.float16),
            acquired=np.stack([s.acquired for s in found.values()]),
        )
    temporary.replace(path)
