"""Random pieces of label maps, turned, stretched and bent."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.results import FloatArray, Labels, Voxels
from inference.training.segmenter.contrast import smooth_field
from inference.training.segmenter.scene import SPACING_MM, Label

LIVER = (Label.LIVER, Label.LESION, Label.PORTAL_VEIN, Label.HEPATIC_VEIN, Label.NECROSIS)
"""Labels that make up the liver."""


def in_liver(labels: Tensor) -> Tensor:
    """Return where labels are of the liver, its tumours and its own vessels included, as bool."""
    return torch.isin(labels, torch.tensor([int(k) for k in LIVER]))


def random_coordinates(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    centre: FloatArray,
    step: float,
    bend: tuple[tuple[float, float], ...],
) -> Tensor:
    """Return coordinates (z, y, x, 3) into a label map, in its voxels, order (z, y, x).

    Parameters
    ----------
    centre : array, (3,)
    step : voxels of the label map for each voxel of the piece
    bend : (length in voxels, largest displacement in voxels of the label map) of each elastic part
    """
    angles = np.deg2rad(rng.normal(0.0, 4.5, 3))
    scale = step * rng.uniform(0.84, 1.18, 3) * rng.uniform(0.94, 1.06)
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    matrix = torch.as_tensor((turn @ np.diag(scale)).T, dtype=torch.float32)
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2.0 for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    place = grid @ matrix + torch.as_tensor(centre, dtype=torch.float32)
    for length, most in bend:
        waves = torch.stack([smooth_field(shape, length) for _ in range(3)], dim=-1)
        place = place + waves * float(most * rng.uniform(0.0, 1.0))
    return place


def _normalised(place: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Coordinates as `grid_sample` wants them: order (x, y, z), -1 to 1 between voxel centres."""
    parts = [2.0 * place[..., axis] / (shape[axis] - 1) - 1.0 for axis in (2, 1, 0)]
    return torch.stack(parts, dim=-1)[None]


def nearest_labels(label_map: Labels, place: Tensor) -> Tensor:
    """Return the labels at coordinates, int64 (z, y, x); the edge repeats outside."""
    source = torch.from_numpy(label_map.astype(np.float32))[None, None]
    grid = _normalised(place, label_map.shape)
    taken = functional.grid_sample(source, grid, mode="nearest", padding_mode="border", align_corners=True)
    return taken[0, 0].round().long()


def sampled_image(values: Voxels, place: Tensor) -> Tensor:
    """Return an image (z, y, x) linearly interpolated at coordinates; the edge repeats outside."""
    grid = _normalised(place, values.shape)
    source = torch.from_numpy(values)[None, None]
    taken = functional.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)
    image: Tensor = taken[0, 0]
    return image


def smooth_labels(label_map: Labels, place: Tensor) -> Tensor:
    """Return the most probable labels after linear interpolation, so that borders are not steps."""
    low = np.maximum(np.floor(place.reshape(-1, 3).amin(0).numpy()).astype(int) - 1, 0)
    high = np.minimum(np.ceil(place.reshape(-1, 3).amax(0).numpy()).astype(int) + 2, label_map.shape)
    low = np.minimum(low, np.array(label_map.shape) - 2)
    high = np.maximum(high, low + 2)
    part = label_map[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    present = np.unique(part)
    layers = torch.from_numpy(np.stack([(part == k) for k in present]).astype(np.float32))[None]
    grid = _normalised(place - torch.as_tensor(low, dtype=torch.float32), part.shape)
    shares = functional.grid_sample(layers, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return torch.from_numpy(present.astype(np.int64))[shares[0].argmax(dim=0)]


def whole_slab(rng: np.random.Generator, label_map: Labels, spacing_mm: float) -> Tensor:
    """Return a slab across the body of random height at a spacing, as labels int64."""
    height = int(rng.choice([12, 16, 24, 32, 40, 48], p=[0.10, 0.15, 0.25, 0.25, 0.15, 0.10]))
    step = spacing_mm / SPACING_MM
    middle = np.array(label_map.shape, dtype=np.float64) / 2.0
    room = max(middle[0] - height * step / 2.0, 0.0) + 6.0
    centre = middle + np.array([rng.uniform(-room, room), rng.normal(0.0, 5.0), rng.normal(0.0, 5.0)])
    place = random_coordinates(rng, (height, 64, 88), centre, step, ((22.0, 3.6), (11.0, 1.5)))
    return nearest_labels(label_map, place)


def field_of_view(rng: np.random.Generator, labels: Tensor) -> Tensor:
    """Cut a slab as a reconstruction around the liver would, in one of three scans."""
    if rng.random() > 1.0 / 3.0:
        return labels
    _, y, x = labels.shape
    rows, columns = (int(n * rng.uniform(0.6, 1.0)) for n in (y, x))
    row, column = int(rng.integers(y - rows + 1)), int(rng.integers(x - columns + 1))
    return labels[:, row : row + rows, column : column + columns].contiguous()


def liver_piece(
    rng: np.random.Generator, label_map: Labels, spacing_mm: float, shape: tuple[int, int, int]
) -> Tensor:
    """Return a piece around a random point of the liver at a spacing, as labels int64."""
    inside = np.flatnonzero(np.isin(label_map, LIVER))
    point = np.array(np.unravel_index(int(rng.choice(inside)), label_map.shape), dtype=np.float64)
    step = spacing_mm / SPACING_MM
    place = random_coordinates(rng, shape, point + rng.normal(0.0, 4.0, 3), step, ((16.0, 2.4), (7.0, 1.0)))
    return smooth_labels(label_map, place)


def add_tumours(
    rng: np.random.Generator,
    labels: Tensor,
    spacing_mm: float,
    counts: tuple[float, ...],
    diameter_mm: tuple[float, float],
) -> Tensor:
    """Paint more tumours into the liver of a piece.

    Parameters
    ----------
    counts : probability of 0, 1, 2, ... tumours
    diameter_mm : median, and deviation of the logarithm
    """
    liver = in_liver(labels)
    inside = liver.nonzero()
    count = int(rng.choice(len(counts), p=counts))
    if len(inside) < 200 or count == 0:
        return labels
    labels = labels.clone()
    z, y, x = labels.shape
    rough = smooth_field((z, y, x), 10.0 / spacing_mm)
    axes = [torch.arange(n, dtype=torch.float32) for n in labels.shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    for _ in range(count):
        centre = inside[int(rng.integers(len(inside)))].float()
        radius = float(np.clip(np.exp(rng.normal(np.log(diameter_mm[0]), diameter_mm[1])), 7.0, 125.0))
        radius /= 2.0 * spacing_mm
        radii = torch.as_tensor(radius * np.exp(rng.normal(0.0, 0.18, 3)), dtype=torch.float32)
        depth = ((((grid - centre) / radii) ** 2).sum(-1).sqrt() - 1.0) * radius
        depth = depth + rough * radius * float(rng.uniform(0.05, 0.3))
        labels[(depth < 0) & liver] = int(Label.LESION)
        if rng.random() < 0.4:
            labels[(depth < -radius * float(rng.uniform(0.25, 0.75))) & liver] = int(Label.NECROSIS)
    return labels
