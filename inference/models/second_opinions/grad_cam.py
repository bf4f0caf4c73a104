"""Grad-CAM: which parts of a slice raise or lower the output of a network, and a picture of it.

Each map of the last stage is weighted by the mean of the output's gradient over that map (Selvaraju et al.
2017, ICCV). The sum is left signed: the study shows what speaks for survival in red and what speaks against
it in blue.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from inference.results import FloatArray, Labels

ENLARGED = 5
"""Pixels of the picture for one of the slice."""
_RED, _BLUE, _OUTLINE = (214.0, 39.0, 40.0), (31.0, 88.0, 180.0), (255.0, 221.0, 0.0)
_STRONGEST = 0.6
"""Share of the colour where the map is strongest."""


def grad_cam(maps: Tensor, output: Callable[[Tensor], Tensor], shape: tuple[int, int]) -> FloatArray:
    """Return the signed Grad-CAM of a slice, `shape`, scaled so that the strongest is 1 or -1.

    Parameters
    ----------
    maps : Tensor, (1, features, y, x)
        Of the last stage.
    output : callable
        The number that is explained, of maps.
    shape : (rows, columns)
        Of the slice.

    Returns
    -------
    array, (rows, columns)
        0 everywhere where nothing in the maps matters.
    """
    with torch.enable_grad():
        given = maps.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(output(given).sum(), given)
    weighted = (gradient.mean(dim=(2, 3), keepdim=True) * given.detach()).sum(dim=1, keepdim=True)
    large = nn.functional.interpolate(weighted, size=shape, mode="bilinear", align_corners=False)[0, 0]
    found = large.double().numpy()
    strongest = float(np.abs(found).max())
    return np.asarray(found / strongest if strongest > 0 else found)


def overlay(slice_channels: Labels, signed: FloatArray) -> npt.NDArray[np.uint8]:
    """Return a slice with a signed map over it, and the tumour's outline.

    Parameters
    ----------
    slice_channels : array of uint8, (3, y, x)
        As `inference.models.second_opinions.slice_inputs.tumour_slices` makes them.
    signed : array, (y, x)
        -1 to 1.

    Returns
    -------
    array of uint8, (ENLARGED * y, ENLARGED * x, 3)
    """
    # The portal venous phase shows the liver more evenly; the arterial one where there is no other.
    grey = slice_channels[1] if slice_channels[1].any() else slice_channels[0]
    large = _enlarged(grey.astype(np.float64))[..., None]
    strength = _STRONGEST * np.abs(_enlarged(signed))[..., None]
    colour = np.where(_enlarged(signed)[..., None] > 0, np.array(_RED), np.array(_BLUE))
    mixed = np.repeat(large, 3, axis=2) * (1 - strength) + colour * strength
    inside = np.kron(slice_channels[2] > 0, np.ones((ENLARGED, ENLARGED))) > 0
    mixed[_edge(inside)] = _OUTLINE
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), dtype=np.uint8)


def _enlarged(values: FloatArray) -> FloatArray:
    size = [n * ENLARGED for n in values.shape]
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    large = nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)
    return np.asarray(large[0, 0].numpy())


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.pad(inside, 1)
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(inside & ~core)
