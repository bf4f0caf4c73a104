"""Tumour slices of a cohort's patients, prepared once, and the batches that are drawn of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.errors import TrainingDataError
from inference.evaluation.metrics import BoolArray
from inference.models.protocols import Progress
from inference.models.second_opinions.residual import ResidualSettings
from inference.models.second_opinions.slice_inputs import as_tensor, tumour_slices
from inference.results import FloatArray, Labels
from inference.training.cohort import Cohort
from inference.training.features import crop_of
from inference.training.network_channels import drawn_images

_FURTHEST_SHIFT = 4
_BRIGHTNESS_SD, _CONTRAST_SD = 0.05, 0.05
_TOLD = "belongs_to.json"


def prepared_slices(
    cohort: Cohort, ids: Sequence[str], settings: ResidualSettings, kept: Path, progress: Progress
) -> dict[str, Labels]:
    """Return the tumour slices of patients by id, (n, 3, y, x); those without tumour are left out.

    Parameters
    ----------
    kept : Path
        Folder that takes them; what is there already is read.

    Raises
    ------
    TrainingDataError
        The folder holds slices of another cohort, or images cannot be read.
    """
    claim(kept, {"cohort": cohort.info.sha256, "slices": settings.slices})
    found = {}
    for count, patient_id in enumerate(ids):
        progress("preparing slices", count / max(len(ids), 1))
        slices = _of_patient(cohort, patient_id, settings, kept / f"{patient_id}.npz")
        if len(slices):
            found[patient_id] = slices
    return found


def claim(kept: Path, told: Mapping[str, object]) -> None:
    """Note in a folder whose work it holds, so that no training goes on from that of another.

    Raises
    ------
    TrainingDataError
        It holds other work.
    """
    kept.mkdir(parents=True, exist_ok=True)
    path, text = kept / _TOLD, json.dumps(told, sort_keys=True)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise TrainingDataError(
            f"the folder {kept.name} holds the work of another cohort or other settings; "
            "remove it or choose another"
        )
    path.write_text(text, encoding="utf-8")


def _of_patient(cohort: Cohort, patient_id: str, settings: ResidualSettings, path: Path) -> Labels:
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["slices"], dtype=np.uint8)
    crop = crop_of(drawn_images(cohort, patient_id))
    slices, _largest = tumour_slices(crop, cohort.info.modality, settings.slices)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez_compressed(stream, slices=slices)
    temporary.replace(path)
    return slices


def slice_batch(slices: Sequence[Labels], chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return one random slice of each chosen patient, shifted and a little brighter or darker.

    Parameters
    ----------
    slices : one array (n, 3, y, x) a patient
    chosen : array of int, (m,)

    Returns
    -------
    Tensor, (m, 3, y, x)
    """
    taken = np.stack([slices[int(p)][int(rng.integers(len(slices[int(p)])))] for p in chosen])
    batch = as_tensor(taken)
    shifts = rng.integers(-_FURTHEST_SHIFT, _FURTHEST_SHIFT + 1, size=(len(chosen), 2)).tolist()
    batch = torch.stack(
        [torch.roll(image, (dy, dx), dims=(1, 2)) for image, (dy, dx) in zip(batch, shifts, strict=True)]
    )
    gain = 1.0 + _CONTRAST_SD * rng.standard_normal((len(chosen), 1, 1, 1))
    offset = _BRIGHTNESS_SD * rng.standard_normal((len(chosen), 1, 1, 1))
    seen = batch[:, :-1] != 0
    changed = batch[:, :-1] * torch.from_numpy(gain).float() + torch.from_numpy(offset).float()
    return torch.cat([torch.where(seen, changed, batch[:, :-1]), batch[:, -1:]], dim=1)


def stopping_part(strata: FloatArray, share: float, rng: np.random.Generator) -> BoolArray:
    """Return who of the training patients decides when training stops, a share of each stratum, (n,).

    Validation patients stay untouched: thresholds and figures come from them.
    """
    part = np.zeros(len(strata), dtype=np.bool_)
    for value in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == value))
        part[members[: round(share * len(members))]] = True
    return part
