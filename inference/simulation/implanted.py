"""Simulated tumours in a real liver: how a site's scan takes up disease it never had.

A real scan is what its tissue is plus noise. Where a tumour is implanted the tissue is replaced and the
scan's own noise stays, so that it has the texture of its surroundings; a tumour is brighter or darker than
the parenchyma round it, wherever in the liver it lies. What a follow-up shows is the baseline with other
tumours: the noise is the same, and their difference is free of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from inference.case import Phase
from inference.randomness import RandomStreams
from inference.results import Labels, Mask, Voxels
from inference.simulation.acquisition import Protocol, Scanner, draw_protocols
from inference.simulation.anatomy import LIVER_CENTRE_MM, Anatomy, coordinates
from inference.simulation.cohort_images import Acquired
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.habitus import Habitus
from inference.simulation.scan import Background, tumour_change
from inference.simulation.site_anatomies import CT_PHASES, SiteAnatomy
from inference.simulation.texture import texture
from inference.simulation.tissues import Structure
from inference.training.cohort import CROP, NO_VALUE, SPACING_MM, HalfPrecision

_STEP = (SPACING_MM, SPACING_MM, SPACING_MM)
_HU_LIMITS = (-1200.0, 4000.0)

_TISSUE_MM = 2.6
"""Smoothing (standard deviation) that parts the tissue from its noise."""
_VESSEL_MM = 1.8
_PARENCHYMA_MM = 16.0
_NOISE_KEPT = 2.5
"""Deviations beyond which what differs from the smooth tissue is structure, such as a vessel."""
_LIVER_RANGE_HU = 120.0
"""What differs more from the liver's median is no liver, whatever the mask says."""
_VESSEL_HU = 50.0
"""Contrast of a full voxel of portal blood over the liver in the portal venous phase."""
_SMALLEST_VESSEL_ML = 0.3


@dataclass(frozen=True, slots=True)
class LiverTissue:
    """What a real liver is made of in one series; arrays on the crop's grid.

    Attributes
    ----------
    tissue : what would be seen without noise, vessels included; continued beyond the liver
    parenchyma : level of the tissue between vessels, over centimetres
    noise : standard deviation in HU
    """

    tissue: Voxels
    parenchyma: Voxels
    noise: float


def liver_tissue(image: Voxels, liver: Voxels) -> LiverTissue:
    """Part a real liver into tissue and noise.

    Parameters
    ----------
    image : array of float32
        HU; NaN where nothing was acquired.
    liver : array of float32
        Share of the voxel that is liver.
    """
    inner = (liver > 0.95) & np.isfinite(image)
    level = float(np.median(image[inner]))
    used = inner & (np.abs(np.nan_to_num(image, nan=1e4) - level) < _LIVER_RANGE_HU)
    broad = _mean_of(image, used, _PARENCHYMA_MM, np.full(image.shape, level, np.float32))
    smooth = _mean_of(image, used, _TISSUE_MM, broad)
    noise = _deviation(image[used] - smooth[used])
    spread = _deviation(smooth[used] - level)
    quiet = used & (np.abs(smooth - level) < 2.5 * spread)
    parenchyma = _mean_of(image, quiet, _PARENCHYMA_MM, broad)
    limit = np.float32(_NOISE_KEPT * noise)
    kept = np.clip(np.nan_to_num(image) - smooth, -limit, limit)
    # At the liver's border a voxel is partly fat: its tissue is that of the liver beside it.
    tissue = np.where(inner, np.nan_to_num(image) - kept, smooth)
    return LiverTissue(tissue.astype(np.float32), parenchyma, noise)


def _deviation(values: Voxels) -> float:
    """Return a standard deviation that outliers do not move."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1e-3)


def _mean_of(image: Voxels, used: Mask, sigma_mm: float, otherwise: Voxels) -> Voxels:
    """Return the Gaussian mean over the voxels that are used; another value far from all of them."""
    sigma = sigma_mm / SPACING_MM
    weight = ndimage.gaussian_filter(used.astype(np.float32), sigma, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(used, image, 0.0).astype(np.float32), sigma, truncate=3.0)
    return np.where(weight > 0.02, total / np.maximum(weight, 0.02), otherwise).astype(np.float32)


def vessels(image: Voxels, liver: Voxels, found: LiverTissue) -> Voxels:
    """Return the share of each voxel that is a vessel, from a portal venous series.

    Portal and hepatic veins look alike in this phase and are not told apart.
    """
    inner = (liver > 0.95) & np.isfinite(image)
    smooth = _mean_of(image, inner, _VESSEL_MM, found.parenchyma)
    over = (smooth - found.parenchyma - found.noise) / np.float32(_VESSEL_HU)
    share = np.clip(over, 0.0, 1.0) * (liver > 0.5)
    parts, count = ndimage.label(share > 0.3)
    if count == 0:
        return np.zeros_like(share, dtype=np.float32)
    sizes = np.bincount(parts.ravel(), minlength=count + 1) * SPACING_MM**3 / 1000.0
    sizes[0] = 0.0
    large = ndimage.binary_dilation((sizes >= _SMALLEST_VESSEL_ML)[parts])
    return np.asarray(share * large, dtype=np.float32)


# ------------------------------------------------------------------ a patient


@dataclass(frozen=True, slots=True)
class ImplantedSeries(Acquired):
    """A real liver, and its series into which tumours are drawn.

    Attributes
    ----------
    site : SiteAnatomy
    study : int
        Number of the study; patients with the same one have the same liver.
    """

    site: SiteAnatomy
    study: int

    @property
    def traits(self) -> Mapping[str, float]:
        """Return which study the liver is from."""
        return {"anatomy": self.study}

    def baseline(
        self, state: TumourState, appearance: Appearance
    ) -> tuple[HalfPrecision, HalfPrecision | None]:
        """Return the baseline as acquired, (phase, z, y, x); without noise there is none."""
        return self._drawn(state, appearance), None

    def follow_up(self, state: TumourState, appearance: Appearance) -> HalfPrecision:
        """Return the images of a state with the noise of the baseline, (phase, z, y, x)."""
        return self._drawn(state, appearance)

    def _drawn(self, state: TumourState, appearance: Appearance) -> HalfPrecision:
        images = self.site.images.copy()
        where = state.box.slices
        for channel, phase in enumerate(CT_PHASES):
            if phase not in self.protocols:
                continue
            behind, protocol = self.backgrounds[phase], self.protocols[phase]
            change = tumour_change(behind, self.anatomy, state, appearance, protocol)
            stored = images[channel][where]
            touched = (change != 0.0) & (stored != NO_VALUE)
            drawn = np.rint(np.clip(stored[touched] + change[touched], *_HU_LIMITS))
            stored[touched] = drawn.astype(np.int16)
        return images


def acquire_implanted(
    site: SiteAnatomy, study: int, appearance: Appearance, streams: RandomStreams
) -> ImplantedSeries:
    """Return the series of a patient whose liver is real.

    Enhancement and timing, which only set how much a tumour differs from the liver, are drawn as for a
    simulated scan; sharpness is that of the study's voxels.
    """
    liver = (site.liver / np.float32(255.0)).astype(np.float32)
    found = {p: liver_tissue(_image(site, p), liver) for p in site.phases}
    veins = np.zeros_like(liver)
    if Phase.PORTAL_VENOUS in found:
        veins = vessels(_image(site, Phase.PORTAL_VENOUS), liver, found[Phase.PORTAL_VENOUS])
    anatomy = _anatomy(liver, veins, streams.derive("anatomy"))
    drawn = draw_protocols(site.phases, Scanner.STANDARD, streams.derive("protocol"))
    return ImplantedSeries(
        anatomy=anatomy,
        protocols={p: _as_sharp_as(protocol, site) for p, protocol in drawn.items()},
        scales=dict.fromkeys(site.phases, 1.0),
        backgrounds={p: Background(_image(site, p), f.tissue, f.parenchyma) for p, f in found.items()},
        streams=streams,
        site=site,
        study=study,
    )


def _image(site: SiteAnatomy, phase: Phase) -> Voxels:
    image = site.images[CT_PHASES.index(phase)]
    return np.where(image == NO_VALUE, np.nan, image).astype(np.float32)


def _as_sharp_as(protocol: Protocol, site: SiteAnatomy) -> Protocol:
    slices, rows, columns = site.spacing_mm
    in_plane = float(np.clip(1.5 * max(rows, columns), 1.0, 3.0))
    return replace(protocol.clean(), in_plane_mm=in_plane, through_plane_mm=float(np.clip(slices, 1.6, 6.0)))


def _anatomy(liver: Voxels, veins: Voxels, rng: np.random.Generator) -> Anatomy:
    """Return what the simulation of disease needs of a liver; all else of the abdomen is left empty."""
    mask = liver > 0.5
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    field = coordinates(CROP, _STEP, LIVER_CENTRE_MM)
    patches, specks = texture(rng, 4.5), texture(rng, 2.4)
    # As in a simulated liver, so that tumours are as uneven as there.
    mosaic = (np.tanh(2.0 * patches.on(field)) + 0.5 * specks.on(field)) / np.float32(0.93)
    labels: Labels = np.where(mask, np.uint8(Structure.LIVER), np.uint8(Structure.AIR))
    nothing = np.zeros(CROP, np.float32)
    return Anatomy(
        field=field,
        step_mm=_STEP,
        centre_mm=LIVER_CENTRE_MM,
        habitus=Habitus(),
        labels=labels,
        over=labels,
        under=labels,
        share=np.ones(CROP, np.float32),
        liver=liver,
        liver_depth=(depth * SPACING_MM).astype(np.float32),
        portal=veins,
        artery=nothing,
        hepatic=nothing,
        body=nothing,
        grain=nothing,
        mosaic=mosaic.astype(np.float32),
        nodules=nothing,
        stripes=nothing,
    )
