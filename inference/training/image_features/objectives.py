"""What the image encoder is fitted to: measurable targets, and telling images apart.

The self-supervised part compares two views of each image and pulls them together, away from the other
images of the batch (normalised temperature-scaled cross-entropy: Chen et al. 2020, ICML, eq. 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.models.image_features.encoder import ImageEncoder
from inference.models.image_features.inputs import CHANNELS, IMAGES

_TEMPERATURE = 0.2
_LOSE_PHASE = 0.15
_SHIFT = 3
_LEVEL_SD = 0.15
_GAIN_SD = 0.1
_NOISE_SD = 0.1


def augmented(inputs: Tensor, rng: np.random.Generator) -> Tensor:
    """Return another view of the same images: mirrored, shifted, brighter, noisier, or with one phase.

    Parameters
    ----------
    inputs : Tensor, (n, 8, z, y, x)
        As `as_tensor` gives them. Not mirrored from left to right, nor from head to foot: where a
        tumour lies in the liver matters.
    """
    views = []
    for image in inputs:
        view = torch.roll(image, tuple(int(s) for s in rng.integers(-_SHIFT, _SHIFT + 1, 3)), (1, 2, 3))
        if rng.random() < 0.5:
            view = torch.flip(view, (2,))
        views.append(_other_scanner(view, rng))
    return torch.stack(views)


def _other_scanner(view: Tensor, rng: np.random.Generator) -> Tensor:
    images, maps, seen = view[:IMAGES], view[IMAGES : len(CHANNELS)], view[len(CHANNELS) :].clone()
    gain, level = 1.0 + _GAIN_SD * rng.standard_normal(), _LEVEL_SD * rng.standard_normal()
    noise = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)).to(images.device)
    amount = _NOISE_SD * float(rng.random())
    both = bool((seen.amax(dim=(1, 2, 3)) > 0).all())
    if both and rng.random() < _LOSE_PHASE:
        seen[int(rng.integers(IMAGES))] = 0.0
    return torch.cat([(images * gain + level + amount * noise) * seen, maps, seen])


def contrastive_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the loss of two views of n images, (n, features) of unit length each; 0 for one image."""
    n = len(first)
    if n < 2:
        return (first * second).sum() * 0.0
    both = torch.cat([first, second])
    alike = both @ both.T / _TEMPERATURE
    alike = alike.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=both.device), float("-inf"))
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(both.device)
    loss: Tensor = torch.nn.functional.cross_entropy(alike, partner)
    return loss


def target_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean smooth error over the targets that are known, of (n, targets); NaN is unknown."""
    known = torch.isfinite(wanted)
    far = torch.nn.functional.smooth_l1_loss(predicted, torch.nan_to_num(wanted), reduction="none")
    loss: Tensor = (far * known).sum() / known.sum().clamp_min(1)
    return loss


@dataclass(frozen=True, slots=True)
class Weights:
    """Shares of the two parts of the loss."""

    targets: float = 1.0
    contrast: float = 0.1


def encoder_loss(
    model: ImageEncoder, inputs: Tensor, wanted: Tensor, rng: np.random.Generator, weights: Weights
) -> Tensor:
    """Return the loss on a batch: targets of both views, and the views' likeness.

    Parameters
    ----------
    inputs : Tensor, (n, 8, z, y, x)
    wanted : Tensor, (n, targets)
        Standardised; NaN where not known.
    """
    views = torch.cat([augmented(inputs, rng), augmented(inputs, rng)])
    predicted, projected = model.heads(model(views))
    first, second = projected.chunk(2)
    contrast = contrastive_loss(first, second)
    return weights.targets * target_loss(predicted, torch.cat([wanted, wanted])) + weights.contrast * contrast
