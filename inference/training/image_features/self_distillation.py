"""Self-distillation without labels on tumour slices: what DELICAITE calls its unsupervised features.

A student sees global and local views of a slice, a teacher the global ones only; the student learns to
say of each view what the teacher says of another. The teacher is the moving average of the student, and
its output is centred and sharpened so that it does not collapse (Caron et al. 2021, ICCV, algorithm 1).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from inference.bundle_store import seal
from inference.errors import TrainingDataError
from inference.models.image_features.slices import (
    SIDE,
    SliceNetwork,
    SliceSettings,
    raw_features,
    tumour_slices,
    write_slices,
)
from inference.models.image_features.vectors import Standard
from inference.models.protocols import Progress, within
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.features import crop_of
from inference.training.loop import Keep, LoopSettings, fit
from inference.training.network_channels import drawn_images

_TEACHER, _STUDENT = 0.04, 0.1
_FOLLOWS, _CENTRE_FOLLOWS = 0.996, 0.9
_GLOBAL, _LOCAL = (0.7, 1.0), (0.4, 0.7)
_LOCAL_VIEWS = 2
_DEGREES = 30.0
_PREPARING = 0.3


class SliceTraining(Frozen):
    """How slice features are trained."""

    loop: LoopSettings = LoopSettings(
        steps=2000, learning_rate=5e-4, weight_decay=0.04, validate_every=200, keep=Keep.LAST
    )
    batch: int = Field(24, gt=1, description="slices in a batch")
    network: SliceSettings | None = Field(None, description="None: the defaults for the cohort's modality")
    version: str = "1"


class SelfDistilled(nn.Module):
    """Student and teacher."""

    centre: Tensor

    def __init__(self, settings: SliceSettings) -> None:
        super().__init__()
        self.student = SliceNetwork(settings)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(settings.prototypes))

    def follow(self) -> None:
        """Move the teacher towards the student."""
        with torch.no_grad():
            pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
            for mean, now in pairs:
                mean.lerp_(now, 1.0 - _FOLLOWS)

    def loss(self, global_views: Sequence[Tensor], local_views: Sequence[Tensor]) -> Tensor:
        """Return the mean cross-entropy of each view against the teacher's on another view."""
        with torch.no_grad():
            said = [self.teacher(view) for view in global_views]
            wanted = [nn.functional.softmax((s - self.centre) / _TEACHER, dim=1) for s in said]
            self.centre.lerp_(torch.cat(said).mean(dim=0), 1.0 - _CENTRE_FOLLOWS)
        views = [*global_views, *local_views]
        guesses = [nn.functional.log_softmax(self.student(view) / _STUDENT, dim=1) for view in views]
        terms = [
            -(w * g).sum(dim=1).mean() for i, w in enumerate(wanted) for j, g in enumerate(guesses) if i != j
        ]
        return torch.stack(terms).mean()


def view_of(slices: Tensor, sizes: tuple[float, float], rng: np.random.Generator) -> Tensor:
    """Return a part of each slice at full size: turned by up to 30 degrees, mirrored, other brightness.

    Parameters
    ----------
    slices : Tensor, (n, 2, y, x)
    sizes : least and largest side of the part, as shares
    """
    matrices = np.stack([_placement(sizes, rng) for _ in range(len(slices))])
    grid = nn.functional.affine_grid(
        torch.from_numpy(matrices).float().to(slices.device), list(slices.shape), align_corners=False
    )
    seen = nn.functional.grid_sample(slices, grid, padding_mode="border", align_corners=False)
    gain = torch.from_numpy(1.0 + 0.2 * rng.standard_normal((len(slices), 1, 1, 1))).float()
    level = torch.from_numpy(0.2 * rng.standard_normal((len(slices), 1, 1, 1))).float()
    changed: Tensor = seen * gain.to(slices.device) + level.to(slices.device)
    return changed


def _placement(sizes: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    size = rng.uniform(*sizes)
    angle = math.radians(rng.uniform(-_DEGREES, _DEGREES))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mirror = np.diag(rng.choice([-1.0, 1.0], 2))
    place = rng.uniform(-1.0, 1.0, 2) * (1.0 - size)
    return np.concatenate([size * turn @ mirror, place[:, None]], axis=1)


def train_slices(
    cohort: Cohort, out: Path, work: Path, settings: SliceTraining, progress: Progress
) -> Mapping[str, Any]:
    """Fit slice features on the training patients of a cohort and write their bundle to `out`.

    Parameters
    ----------
    work : Path
        Takes prepared slices, checkpoint and learning curve; a training that was stopped continues.

    Returns
    -------
    mapping
        The metadata. ``metrics`` holds the entropy of the teacher's mean answer over that of a uniform
        one: near 0 the training collapsed, and its features are worth nothing.

    Raises
    ------
    TrainingDataError
        Fewer than two training patients have a tumour.
    """
    modality = cohort.info.modality
    patients = _slices(cohort, work / "slices.npz", within(progress, 0.0, _PREPARING))
    data = torch.from_numpy(patients.reshape(-1, 2, SIDE, SIDE).astype(np.float32))
    chosen = settings.network or SliceSettings(modality=modality)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.loop.seed)
        model = SelfDistilled(chosen)

    def batch_loss(model: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(model, SelfDistilled)  # the loop was given one
        model.follow()
        device = model.centre.device
        batch = data[rng.permutation(len(data))[: settings.batch]].to(device)
        return model.loss(
            [view_of(batch, _GLOBAL, rng) for _ in range(2)],
            [view_of(batch, _LOCAL, rng) for _ in range(_LOCAL_VIEWS)],
        )

    fitted = fit(model, batch_loss, settings.loop, work, within(progress, _PREPARING, 1.0))
    assert isinstance(fitted.model, SelfDistilled)  # the loop was given one
    teacher = fitted.model.teacher
    raw = np.stack([raw_features(teacher, p.astype(np.float32)) for p in patients])
    write_slices(out, teacher, Standard.of(raw))
    metadata = {
        "name": f"slice_features_{modality.lower()}",
        "version": settings.version,
        "format": "slice_features",
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={len(patients)}",
        "description": "self-supervised features of the three slices with the largest tumour",
        "cohort_sha256": cohort.info.sha256,
        "training": settings.model_dump(mode="json"),
        "metrics": {"answer_entropy": _spread(fitted.model, data)},
    }
    seal(out, metadata)
    return metadata


def _slices(cohort: Cohort, kept: Path, progress: Progress) -> npt.NDArray[np.float16]:
    """Return slices of all training patients with tumour, (patients, 3, 2, y, x), float16."""
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as stored:
            if str(stored["cohort"]) == cohort.info.sha256:
                return np.asarray(stored["slices"])
    ids = cohort.ids(Split.TRAIN)
    found = []
    for count, patient_id in enumerate(ids):
        progress("cutting slices", count / max(len(ids), 1))
        slices = tumour_slices(crop_of(drawn_images(cohort, patient_id)), cohort.info.modality)
        if slices is not None:
            found.append(slices.astype(np.float16))
    if len(found) < 2:
        raise TrainingDataError("slice features need at least two training patients with a tumour")
    patients = np.stack(found)
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".part")
    with temporary.open("wb") as stream:
        np.savez(stream, slices=patients, cohort=np.array(cohort.info.sha256))
    temporary.replace(kept)
    return patients


def _spread(model: SelfDistilled, data: Tensor) -> float:
    with torch.no_grad():
        said = torch.cat([model.teacher(part) for part in torch.split(data, 64)])
        mean = nn.functional.softmax((said - model.centre) / _TEACHER, dim=1).mean(dim=0)
    entropy = float(-(mean * mean.clamp_min(1e-12).log()).sum())
    return round(entropy / math.log(len(mean)), 3)
