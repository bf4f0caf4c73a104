"""An answer of the network held to the volumes that were requested, and the image change that follows.

Three scores order the voxels of each lesion: tumour against liver, viable against dead, lipiodol
against necrosis. A shift of each score, one for each lesion, gives the requested volume; fractions,
labels and attenuation are all made from the shifted scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize
from scipy.special import expit, logsumexp

from inference.models.flow.conditions import Prepared, Request
from inference.models.outcome.crops import SPACING_MM, VOXEL_ML, PatientCrop
from inference.results import FloatArray, Labels, Mask, Voxels

SHARPNESS = 3.0
"""Steepness of the fractions over the scores: tissues have edges, not uniform grey shares."""
_FAR = 60.0
_FITS = 1e-3
"""Share of a lesion, and ml, that may be missing from a request; share of a voxel that is not taken."""
_FREE = 0.01
"""Share of tumour below which liver is free of it."""
_SMOOTHED_VOXELS = 0.8
"""Deviation of the Gaussian that borders inside a lesion are smoothed with: the network decides in blocks
of two voxels, tissue does not."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What orders the voxels; arrays of float32, (z, y, x).

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
        _smoothed(values[1] - np.logaddexp(values[2], values[3])),
        _smoothed(values[3] - values[2]),
        np.where(prepared.fields[2] > 0.25, prepared.nearest, 0).astype(np.uint8),
    )


def _smoothed(score: Voxels) -> Voxels:
    return np.asarray(ndimage.gaussian_filter(score, _SMOOTHED_VOXELS, mode="nearest"), dtype=np.float32)


def held(scores: Scores, prepared: Prepared, request: Request) -> Scores:
    """Shift the scores of each lesion so that its fractions have the requested volumes.

    What does not fit into the surroundings of a lesion is left for `outgrown`.
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

    def excess(shift: float) -> float:
        return float(weight @ expit(SHARPNESS * (values + shift))) - wanted

    shift = optimize.brentq(excess, -_FAR - float(values.max()), _FAR - float(values.min()), xtol=1e-9)
    moved = values + shift
    return expit(SHARPNESS * moved), moved.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A follow-up in the whole crop; arrays (..., z, y, x).

    Attributes
    ----------
    levels : array of float32, (8, z, y, x)
        See `inference.models.flow.network.Drawn`.
    """

    scores: Scores
    levels: Voxels


def in_crop(scores: Scores, levels: Voxels, prepared: Prepared, shape: tuple[int, int, int]) -> Rendered:
    """Put an answer back into the crop; outside, there is no tumour, and it would look as that inside."""
    lesion = prepared.lesion > 0
    typical = levels[:, lesion].mean(axis=1) if lesion.any() else np.zeros(len(levels), np.float32)
    whole = np.repeat(typical.astype(np.float32), int(np.prod(shape))).reshape(len(levels), *shape)
    whole[(slice(None), *prepared.box)] = levels
    parts = [np.full(shape, np.float32(-_FAR)) for _ in range(3)]
    for part, score in zip(parts, (scores.tumour, scores.viable, scores.lipiodol), strict=True):
        part[prepared.box] = score
    number = np.zeros(shape, dtype=np.uint8)
    number[prepared.box] = scores.number
    return Rendered(Scores(parts[0], parts[1], parts[2], number), whole)


def outgrown(rendered: Rendered, crop: PatientCrop, request: Request) -> Rendered:
    """Let lesions grow on where their surroundings could not hold what was requested.

    A lesion that fills its surroundings goes on into the liver that is nearest to it and free of tumour,
    layer by layer, be it nearer to another lesion or not; its number goes with it. What the liver cannot
    hold is cut.
    """
    scores = rendered.scores
    for _ in request.viable:
        fractions = scores.fractions(crop.liver)
        free: Mask = (fractions.sum(axis=0) < _FREE * crop.liver) & (crop.liver > 0)
        missing = _missing(scores, fractions, request)
        if not missing or not free.any():
            break
        scores = _grown(scores, crop, free, missing)
    return rendered if scores is rendered.scores else Rendered(scores, rendered.levels)


@dataclass(frozen=True, slots=True)
class _Volumes:
    """Of a lesion in ml; what is dead is necrosis and lipiodol."""

    viable: float
    dead: float
    lipiodol: float


def _missing(scores: Scores, fractions: Voxels, request: Request) -> dict[int, _Volumes]:
    """Return what lesions lack of their request, of those that lack something."""
    flat = scores.number.ravel()
    viable, necrosis, oil = (
        np.bincount(flat, f.ravel().astype(np.float64) * VOXEL_ML, minlength=256) for f in fractions
    )
    lacking = {}
    for n, wanted in request.viable.items():
        wanted_oil = request.lipiodol.get(n, 0.0)
        dead = request.necrosis.get(n, 0.0) + wanted_oil - necrosis[n] - oil[n]
        lack = _Volumes(wanted - viable[n], dead, wanted_oil - oil[n])
        if lack.viable + lack.dead > _FITS * max(viable[n] + necrosis[n], 1.0):
            lacking[n] = lack
    return lacking


def _grown(scores: Scores, crop: PatientCrop, free: Mask, missing: Mapping[int, _Volumes]) -> Scores:
    """Give free liver to the lesions that are nearest to it, as much as they lack."""
    tumour, viable, lipiodol = scores.tumour.copy(), scores.viable.copy(), scores.lipiodol.copy()
    number = scores.number.copy()
    distance, index = ndimage.distance_transform_edt(
        ~np.isin(crop.lesion, list(missing)), return_indices=True
    )
    owner = np.where(free, crop.lesion[tuple(index)], 0)
    for lesion, lack in missing.items():
        region = owner == lesion
        depth = -distance[region].astype(np.float32)
        weight = crop.liver[region].astype(np.float64) * VOXEL_ML
        shares, of_tumour = _shifted(depth, weight, lack.viable + lack.dead)
        total = weight * shares
        shares_alive, of_viable = _shifted(depth, total, max(lack.viable, 0.0))
        _, of_lipiodol = _shifted(depth, total * (1.0 - shares_alive), max(lack.lipiodol, 0.0))
        taken = shares > _FITS
        region[region] = taken
        tumour[region], viable[region], lipiodol[region] = (
            part[taken] for part in (of_tumour, of_viable, of_lipiodol)
        )
        number[region] = lesion
    return Scores(tumour, viable, lipiodol, number)


def with_new_lesions(
    scores: Scores, crop: PatientCrop, volumes_ml: tuple[float, ...], sites: tuple[tuple[int, int, int], ...]
) -> Scores:
    """Add round viable lesions at sites in the crop, each of a volume.

    Parameters
    ----------
    sites : tuple of (z, y, x)
        As many as there are volumes, or more; see `drawn_sites`.
    """
    if not volumes_ml:
        return scores
    tumour, viable = scores.tumour.copy(), scores.viable.copy()
    number = scores.number.copy()
    first = int(crop.lesion.max()) + 1
    for offset, (volume, site) in enumerate(zip(volumes_ml, sites, strict=False)):
        radius = (3000.0 * volume / (4.0 * np.pi)) ** (1.0 / 3.0) / SPACING_MM
        reach = int(np.ceil(radius)) + 2
        box = tuple(
            slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(site, tumour.shape, strict=True)
        )
        z, y, x = (np.arange(s.start, s.stop) - c for s, c in zip(box, site, strict=True))
        depth = radius - np.sqrt(z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2)
        free = (depth > -1.5) & (crop.lesion[box] == 0) & (tumour[box] < 0) & (crop.liver[box] > 0.25)
        weight = crop.liver[box][free].astype(np.float64) * VOXEL_ML
        _, tumour[box][free] = _shifted(depth[free].astype(np.float32), weight, volume)
        viable[box][free] = _FAR
        number[box][free] = min(first + offset, 255)
    return Scores(tumour, viable, scores.lipiodol, number)


def free_places(crop: PatientCrop) -> npt.NDArray[np.intp]:
    """Return where new lesions may begin: flat indices in the liver, clear of its surface and of lesions."""
    liver = crop.liver >= 0.5
    depth = ndimage.distance_transform_edt(liver) * SPACING_MM
    clear = ndimage.distance_transform_edt(crop.lesion == 0) * SPACING_MM
    allowed: Mask = (depth > 6.0) & (clear > 15.0)
    return np.flatnonzero(allowed if allowed.any() else liver)


def drawn_sites(
    places: npt.NDArray[np.intp], shape: tuple[int, int, int], rng: np.random.Generator, count: int
) -> tuple[tuple[int, int, int], ...]:
    """Return places of new lesions in a crop, drawn from its `free_places`."""
    z, y, x = np.unravel_index(rng.choice(places, size=count), shape)
    return tuple((int(a), int(b), int(c)) for a, b, c in zip(z, y, x, strict=True))


def image_change_of(fractions: Voxels, crop: PatientCrop, levels: Voxels) -> Voxels:
    """Return the change of both phases, (2, z, y, x), in units of the modality's scale; 0 outside the liver.

    The arithmetic of `inference.models.flow.network.image_change`.
    """
    difference = fractions - crop.fractions
    change = fractions[0] * levels[6:8]
    for k in range(3):
        change = change + difference[k] * levels[2 * k : 2 * k + 2]
    return np.asarray(change * (crop.liver > 0), dtype=np.float32)
