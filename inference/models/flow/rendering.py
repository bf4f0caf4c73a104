"""An answer of the network held to the volumes that were requested, and the image change that follows.

Three scores order the voxels of each lesion: tumour against liver, viable against dead, lipiodol
against necrosis. A shift of each score, one for each lesion, gives the requested volume; fractions,
labels and attenuation are all made from the shifted scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logsumexp

from inference.models.flow.conditions import Prepared, Request
from inference.models.outcome.crops import SPACING_MM, VOXEL_ML
from inference.results import FloatArray, Labels, Mask, Voxels

SHARPNESS = 3.0
"""Steepness of the fractions over the scores: tissues have edges, not uniform grey shares."""
_FAR = 60.0
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Scores:
    """What orders the voxels, in the box of the liver; arrays of float32, (z, y, x).

    Attributes
    ----------
    tumour, viable, lipiodol : above 0 where the voxel is tumour, where tumour is viable, where dead
        tumour holds lipiodol
    number : lesion number that a voxel would belong to, 0 where no tumour may be
    """

    tumour: Voxels
    viable: Voxels
    lipiodol: Voxels
    number: Labels

    def fractions(self, liver: Voxels) -> Voxels:
        """Return viable, dead and lipiodol shares, (3, z, y, x)."""
        total = expit(SHARPNESS * self.tumour) * liver * (self.number > 0)
        viable = total * expit(SHARPNESS * self.viable)
        dead = total - viable
        oil = dead * expit(SHARPNESS * self.lipiodol)
        return np.stack([viable, dead - oil, oil]).astype(np.float32)


def scores_of(logits: Voxels, prepared: Prepared) -> Scores:
    """Return the scores of an answer, (4, z, y, x), before it is held to volumes."""
    values = logits.astype(np.float32)
    return Scores(
        np.asarray(logsumexp(values[1:], axis=0) - values[0], dtype=np.float32),
        np.asarray(values[1] - np.logaddexp(values[2], values[3]), dtype=np.float32),
        np.asarray(values[3] - values[2], dtype=np.float32),
        np.where(prepared.fields[2] > 0.25, prepared.nearest, 0).astype(np.uint8),
    )


def held(scores: Scores, prepared: Prepared, request: Request) -> Scores:
    """Shift the scores of each lesion so that its fractions have the requested volumes.

    A volume that does not fit into the surroundings of the lesion is cut to what does.
    """
    tumour, viable, lipiodol = scores.tumour.copy(), scores.viable.copy(), scores.lipiodol.copy()
    liver = prepared.fields[2]
    for number, viable_ml in request.viable.items():
        region = scores.number == number
        weight = liver[region].astype(np.float64) * VOXEL_ML
        dead_ml = request.necrosis.get(number, 0.0) + request.lipiodol.get(number, 0.0)
        shares, tumour[region] = _shifted(tumour[region], weight, viable_ml + dead_ml)
        total = weight * shares
        shares, viable[region] = _shifted(viable[region], total, viable_ml)
        dead = total * (1.0 - shares)
        _, lipiodol[region] = _shifted(lipiodol[region], dead, request.lipiodol.get(number, 0.0))
    return Scores(tumour, viable, lipiodol, scores.number)


def _shifted(score: Voxels, weight: FloatArray, wanted: float) -> tuple[FloatArray, Voxels]:
    """Return the shares whose weighted sum is what is wanted, and the shifted scores."""
    if not score.size:
        return np.zeros(0), score
    reach = float(weight.sum())
    if wanted <= 1e-4 or reach <= 1e-9:
        return np.zeros(score.shape), np.full_like(score, -_FAR)
    if wanted >= reach * (1.0 - 1e-6):
        return np.ones(score.shape), np.full_like(score, _FAR)
    values = score.astype(np.float64)

    def total(shift: float) -> float:
        return float(weight @ expit(SHARPNESS * (values + shift)))

    shift = _bisect(total, wanted, -_FAR - float(values.max()), _FAR - float(values.min()))
    moved = values + shift
    return expit(SHARPNESS * moved), moved.astype(np.float32)


def _bisect(rising: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def with_new_lesions(
    scores: Scores, prepared: Prepared, volumes_ml: tuple[float, ...], sites: tuple[tuple[int, int, int], ...]
) -> Scores:
    """Add round viable lesions at sites in the box, each of a volume.

    Parameters
    ----------
    sites : tuple of (z, y, x)
        As many as there are volumes, or more; see `free_sites`.
    """
    tumour, viable = scores.tumour.copy(), scores.viable.copy()
    number = scores.number.copy()
    first = int(prepared.lesion.max()) + 1
    shape = tumour.shape
    for offset, (volume, site) in enumerate(zip(volumes_ml, sites, strict=False)):
        radius = (3000.0 * volume / (4.0 * np.pi)) ** (1.0 / 3.0)
        reach = int(np.ceil(radius / SPACING_MM)) + 2
        box = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(site, shape, strict=True))
        z, y, x = (np.arange(s.start, s.stop) - c for s, c in zip(box, site, strict=True))
        distance = np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
        depth = radius / SPACING_MM - distance
        free = (
            (depth > -1.5)
            & (prepared.lesion[box] == 0)
            & (tumour[box] < 0)
            & (prepared.fields[2][box] > 0.25)
        )
        tumour[box][free] = depth[free]
        viable[box][free] = _FAR
        number[box][free] = min(first + offset, 255)
    return Scores(tumour, viable, scores.lipiodol, number)


def free_sites(prepared: Prepared, rng: np.random.Generator, count: int) -> tuple[tuple[int, int, int], ...]:
    """Return places for new lesions: inside the liver, clear of its surface and of the lesions."""
    from scipy import ndimage

    liver = prepared.fields[2] >= 0.5
    depth = ndimage.distance_transform_edt(liver) * SPACING_MM
    clear = ndimage.distance_transform_edt(prepared.lesion == 0) * SPACING_MM
    allowed: Mask = (depth > 6.0) & (clear > 12.0)
    places = np.flatnonzero(allowed if allowed.any() else liver)
    chosen = rng.choice(places, size=count)
    z, y, x = np.unravel_index(chosen, liver.shape)
    return tuple((int(a), int(b), int(c)) for a, b, c in zip(z, y, x, strict=True))


def image_change_of(fractions: Voxels, prepared: Prepared, levels: Voxels) -> Voxels:
    """Return the change of both phases, (2, z, y, x), in units of the modality's scale; 0 outside the liver.

    The arithmetic of `inference.models.flow.network.image_change`.
    """
    difference = fractions - prepared.fields[3:6]
    change = fractions[0] * levels[6:8]
    for k in range(3):
        change = change + difference[k] * levels[2 * k : 2 * k + 2]
    return np.asarray(change * (prepared.fields[2] > 0), dtype=np.float32)
