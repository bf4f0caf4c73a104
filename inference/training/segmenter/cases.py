"""A site's own segmented cases, mixed into the training beside synthetic images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from inference.evaluation.segmentation_cases import SegmentationCase
from inference.models.unet.organs import LiverPart, Organ, relative_input, relative_scale
from inference.results import Labels, Voxels
from inference.training.loop import BatchLoss
from inference.training.segmenter.crops import nearest_labels, random_coordinates, sampled_image
from inference.training.segmenter.objectives import FINE_SHAPE, network_input, poor_guess

_LIVER, _TUMOUR = 1, 2
_COARSE_SHAPE = (32, 64, 88)


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """One case on an isotropic lattice.

    Attributes
    ----------
    values : array of float32, (z, y, x)
    labels : array of uint8, (z, y, x)
        0, 1 for liver, 2 for tumour.
    """

    values: Voxels
    labels: Labels


def prepare(case: SegmentationCase, spacing_mm: float) -> PreparedCase:
    """Return a case at a spacing, linearly interpolated after a blur that suits it."""
    factor = [s / spacing_mm for s in case.spacing_mm]
    blurred = ndimage.gaussian_filter(case.volume, [0.4 / f if f < 1.0 else 0.0 for f in factor])
    liver = ndimage.zoom((case.liver | case.tumour).astype(np.float32), factor, order=1) > 0.5
    tumour = ndimage.zoom(case.tumour.astype(np.float32), factor, order=1) > 0.5
    labels = np.where(tumour, _TUMOUR, np.where(liver, _LIVER, 0)).astype(np.uint8)
    return PreparedCase(ndimage.zoom(blurred, factor, order=1).astype(np.float32), labels)


@dataclass(frozen=True, slots=True)
class CoarseCases:
    """The liver against all else on a piece of a real image at 4 mm; other organs are not drawn."""

    cases: Sequence[PreparedCase]
    modality: str

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> Tensor:
        """Return the loss of a model on one piece."""
        case = self.cases[int(rng.integers(len(self.cases)))]
        values, labels = _piece(case, rng, _COARSE_SHAPE)
        image = network_input(values, self.modality, rng)[None, None]
        device = next(model.parameters()).device
        share = model(image.to(device)).float().softmax(1)[:, int(Organ.LIVER)]
        return _two_sided(share, (labels > 0)[None].to(device))


@dataclass(frozen=True, slots=True)
class FineCases:
    """Liver and tumours on a piece of a real image at 2 mm; vessels count as parenchyma."""

    cases: Sequence[PreparedCase]
    modality: str

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> Tensor:
        """Return the loss of a model on one piece."""
        case = self.cases[int(rng.integers(len(self.cases)))]
        values, labels = _piece(case, rng, FINE_SHAPE)
        parenchyma = case.values[case.labels == _LIVER]
        liver = float(np.median(parenchyma)) if len(parenchyma) else float(np.median(case.values))
        relative = relative_input(values.numpy(), liver, relative_scale(self.modality, liver))
        alike = (labels == 0) & (torch.from_numpy(relative).abs() < 1.0)
        guess = poor_guess(labels > 0, labels == _TUMOUR, [alike], rng)
        channels = [network_input(values, self.modality, rng), torch.from_numpy(relative), guess]
        device = next(model.parameters()).device
        shares = model(torch.stack(channels)[None].to(device)).float().softmax(1)
        organ = 1.0 - shares[:, int(LiverPart.OUTSIDE)]
        target = labels[None].to(device)
        return _two_sided(organ, target > 0) + _two_sided(shares[:, int(LiverPart.LESION)], target == _TUMOUR)


@dataclass(frozen=True, slots=True)
class Mixed:
    """Real pieces with a probability, synthetic ones otherwise."""

    synthetic: BatchLoss
    real: BatchLoss
    share_real: float

    def __call__(self, model: nn.Module, rng: np.random.Generator) -> Tensor:
        """Return the loss of a model on one piece."""
        chosen = self.real if rng.random() < self.share_real else self.synthetic
        return chosen(model, rng)


def _piece(
    case: PreparedCase, rng: np.random.Generator, shape: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    inside = np.flatnonzero(case.labels > 0)
    size = np.array(case.labels.shape)
    index = int(rng.choice(inside)) if len(inside) else int(rng.integers(case.labels.size))
    centre = np.array(np.unravel_index(index, case.labels.shape), dtype=np.float64)
    centre = np.clip(centre + rng.normal(0.0, 4.0, 3), 0, size - 1)
    place = random_coordinates(rng, shape, centre, 1.0, ((16.0, 1.5),))
    return sampled_image(case.values, place), nearest_labels(case.labels, place)


def _two_sided(share: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy plus one minus soft Dice."""
    target = truth.float()
    loss = functional.binary_cross_entropy(share.clamp(1e-5, 1 - 1e-5), target)
    if target.sum() < 20:
        return loss
    return loss + 1.0 - 2.0 * (share * target).sum() / (share.sum() + target.sum() + 1.0)
