"""The default segmenter: liver, lesions and organs that tell the contrast phase, from the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import ndimage

from inference.bundle_store import bundle_folder, load_metadata
from inference.case import Case
from inference.errors import ImplausibleSegmentation, ModelError, SegmentationMissing
from inference.imaging.boxes import box_of
from inference.imaging.parts import largest_part
from inference.imaging.segmentations import Structure
from inference.models.unet.lattice import box_on_grid, from_lattice, to_lattice, within
from inference.models.unet.network import UNet
from inference.models.unet.organs import FINE_SPACING_MM, LiverPart, Organ
from inference.models.unet.predict import (
    MARGIN_MM,
    CoarseFinding,
    FineFinding,
    Networks,
    find_liver,
    find_organs,
    liver_share,
    look_closely,
)
from inference.results import (
    Baseline,
    Box,
    BundleInfo,
    Grid,
    Labels,
    Lesion,
    Mask,
    Region,
    Segmentation,
    Tissue,
    TissueMap,
    Voxels,
)
from inference.settings import Frozen

_MARGIN_VOXELS = 2
_LEAST_LIVER_ML = 50.0
"""Heart and lung bases gave 0 ml; a liver that is cut by the field of view gave 500 ml."""
_SURE = 0.8
_OPENING_VOXELS = 2
_SMOOTH_MM = 1.5
_RING_VOXELS = (1, 6)
"""The liver around a lesion: from 2 to 12 mm away."""
_LEAST_RING = 50
_LEAST_CONTRAST = 2.2
"""Standard deviations of the liver around: dark bands of a development CT had 1.6 to 2.0, tumours of another
2.7 or more."""
_QUARTILES_OF_NORMAL = 1.349
"""The quartiles of a normal distribution lie this many standard deviations apart."""
_WHOLE = np.ones((3, 3, 3), dtype=bool)
_REGIONS: Mapping[Organ, Structure] = {Organ.AORTA: Structure.AORTA, Organ.KIDNEY: Structure.KIDNEY}


class NetworkSpec(Frozen):
    """One network of the bundle: its file and the widths of its levels."""

    file: str
    inputs: int = Field(gt=0)
    classes: int = Field(gt=0)
    widths: tuple[int, ...]


class SegmenterSpec(Frozen):
    """``networks`` in the metadata of a bundle, the limits of lesions, and why outlines always wait.

    `review` is empty where only doubtful outlines wait for a person.
    """

    coarse: NetworkSpec
    fine: NetworkSpec
    lesion_threshold: float = Field(0.5, gt=0, lt=1)
    smallest_lesion_ml: float = Field(0.4, gt=0)
    review: str = ""


@dataclass(frozen=True, slots=True)
class LiverFinding:
    """Liver and lesions of one volume, on the volume's own grid.

    Attributes
    ----------
    liver : array of bool, shape of the box
        Lesions and vessels included.
    lesion : array of uint8, shape of the box
        0, or the number of a lesion; 1 is the largest.
    """

    box: Box
    liver: Mask
    lesion: Labels
    coarse: CoarseFinding


@dataclass(frozen=True)
class UnetSegmenter:
    """The networks of a bundle, by modality."""

    info: BundleInfo
    networks: Mapping[str, Networks]
    specs: Mapping[str, SegmenterSpec]

    @classmethod
    def from_bundle(cls, name_or_path: str | Path = "segmenter") -> UnetSegmenter:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or its weights do not fit its description.
        """
        info, metadata = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        try:
            specs = {m: SegmenterSpec.model_validate(s) for m, s in metadata["networks"].items()}
        except (KeyError, AttributeError, ValidationError) as error:
            raise ModelError(f"the model bundle {info.name} does not describe its networks") from error
        networks = {
            modality: Networks(modality, _load(folder, spec.coarse), _load(folder, spec.fine))
            for modality, spec in specs.items()
        }
        return cls(info, networks, specs)

    def check(self, case: Case) -> None:
        """Refuse a study without a CT or MR series; all else shows in the pixels.

        Raises
        ------
        SegmentationMissing
            There is no series of a modality that the bundle has networks for.
        """
        if not any(s.modality in self.networks for s in case.series):
            known = " or ".join(sorted(self.networks))
            raise SegmentationMissing(f"the study has no {known} series to segment")

    def segment(self, case: Case, baseline: Baseline) -> Segmentation:
        """Return liver and lesions of the primary series; every lesion voxel is viable here.

        Raises
        ------
        SegmentationMissing
            No network is there for the modality.
        ImplausibleSegmentation
            There is no liver in the field of view.
        """
        primary = baseline.primary
        if primary.modality not in self.networks:
            raise SegmentationMissing(f"the segmenter {self.info.name} has no network for {primary.modality}")
        found = self.segment_volume(primary.values(), primary.grid, primary.modality)
        tissue = np.where(found.liver, np.uint8(Tissue.LIVER), np.uint8(Tissue.BACKGROUND))
        tissue[found.lesion > 0] = Tissue.VIABLE
        return Segmentation(
            labels=TissueMap(found.box, tissue, found.lesion),
            lesions=tuple(Lesion(k, f"L{k}") for k in range(1, int(found.lesion.max()) + 1)),
            bundle=self.info,
            source_sop_instance_uid=None,
            warnings=("Liver and tumours were outlined by a program; check the outlines.",),
            entropy=found.coarse.entropy,
            doubts=(review,) if (review := self.specs[primary.modality].review) else (),
            regions=_regions(found.coarse, primary.grid),
        )

    def segment_volume(self, values: Voxels, grid: Grid, modality: str) -> LiverFinding:
        """Segment one volume.

        Parameters
        ----------
        values : array of float32, (slices, rows, columns)
            HU in CT, intensities in MR.

        Raises
        ------
        ImplausibleSegmentation
            There is no liver in the field of view.
        """
        networks, spec = self.networks[modality], self.specs[modality]
        coarse = find_organs(values, grid, networks)
        fine = find_liver(values, grid, networks, coarse)
        if fine is None:
            raise ImplausibleSegmentation("there is no liver in the field of view")
        return _on_grid(fine, coarse, grid, spec)

    def covers(self, modality: str) -> bool:
        """Whether images of a modality can be outlined."""
        return modality in self.networks

    def outline(self, values: Voxels, grid: Grid, modality: str, liver: Mask, box: Box) -> Mask:
        """Return the lesions in a box of a volume, of which `liver` is the liver, lesions included.

        Parameters
        ----------
        values : array of float32, (slices, rows, columns)
        liver : array of bool, shape of the box
        """
        networks, spec = self.networks[modality], self.specs[modality]
        known = np.zeros(grid.shape, np.float32)
        known[box.slices] = liver
        lattice = within(grid, box, MARGIN_MM, FINE_SPACING_MM)
        fine = look_closely(values, grid, networks, lattice, to_lattice(known, grid, lattice, 0.0))
        share = _lesion_share(fine, liver_share(fine.shares) > 0.5, spec)
        lesion = from_lattice(share, lattice, grid, box) > spec.lesion_threshold
        return _lesions(lesion & liver, grid.voxel_ml, spec.smallest_lesion_ml) > 0


def _load(folder: Path, spec: NetworkSpec) -> UNet:
    network = UNet(spec.inputs, spec.classes, spec.widths)
    try:
        weights = {k: v.float() for k, v in load_file(folder / spec.file).items()}
        network.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"{Path(spec.file).name} of a model bundle does not fit its description") from error
    return network.eval()


def _on_grid(fine: FineFinding, coarse: CoarseFinding, grid: Grid, spec: SegmenterSpec) -> LiverFinding:
    organ = liver_share(fine.shares)
    whole = _filled(largest_part(_opened(organ > 0.5)))
    ml = float(np.count_nonzero(whole)) * FINE_SPACING_MM**3 / 1000.0
    if ml < _LEAST_LIVER_ML:
        raise ImplausibleSegmentation(
            f"there is no liver in the field of view (only {ml:.0f} ml look like it)"
        )
    kept = ndimage.binary_dilation(whole, iterations=1)
    box = box_on_grid(fine.lattice, box_of(kept, 1), grid)
    if box is None:
        raise ImplausibleSegmentation("there is no liver in the field of view")
    # Holes that were filled count as liver, whatever the network said of them.
    held = np.where(kept, np.where(whole, np.maximum(organ, 0.51), organ), 0.0).astype(np.float32)
    share = from_lattice(held, fine.lattice, grid, box)
    liver = share > 0.5
    lesion_share = from_lattice(_lesion_share(fine, whole, spec), fine.lattice, grid, box)
    lesion = _lesions((lesion_share > spec.lesion_threshold) & liver, grid.voxel_ml, spec.smallest_lesion_ml)
    return LiverFinding(box, liver, lesion, coarse)


def _lesion_share(fine: FineFinding, liver: Mask, spec: SegmenterSpec) -> Voxels:
    """Return the probability of lesions in the liver, 0 where a lesion does not stand out from the liver.

    Beam hardening between raised and lowered arms darkens broad bands by about 10 HU, which the network
    takes for lesions; by the spread of the liver around them they are nothing.
    """
    share = np.where(liver, fine.shares[LiverPart.LESION], np.float32(0.0))
    parts, _ = ndimage.label(share > spec.lesion_threshold, structure=_WHOLE)
    smooth = ndimage.gaussian_filter(fine.image, _SMOOTH_MM / FINE_SPACING_MM)
    tissue = liver & (parts == 0)
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        near = tuple(slice(max(s.start - _RING_VOXELS[1], 0), s.stop + _RING_VOXELS[1]) for s in box)
        part = parts[near] == number
        away = ndimage.distance_transform_edt(~part)
        ring = tissue[near] & (away > _RING_VOXELS[0]) & (away <= _RING_VOXELS[1])
        if not _stands_out(smooth[near][part], smooth[near][ring]):
            share[near][part] = 0.0
    return share


def _stands_out(part: Voxels, ring: Voxels) -> bool:
    if ring.size < _LEAST_RING:
        return True
    low, middle, high = (float(v) for v in np.quantile(ring, (0.25, 0.5, 0.75)))
    return abs(float(np.median(part)) - middle) >= _LEAST_CONTRAST * (high - low) / _QUARTILES_OF_NORMAL


def _opened(mask: Mask) -> Mask:
    """Cut off what hangs on by less than about 8 mm; the faces of the lattice are no borders."""
    ball = ndimage.iterate_structure(ndimage.generate_binary_structure(3, 1), _OPENING_VOXELS)
    wide = np.pad(mask, _OPENING_VOXELS, mode="edge")
    inner = (slice(_OPENING_VOXELS, -_OPENING_VOXELS),) * 3
    return np.asarray(ndimage.binary_opening(wide, ball)[inner])


def _filled(mask: Mask) -> Mask:
    """Close holes on each axial slice."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])


def _lesions(mask: Mask, voxel_ml: float, smallest_ml: float) -> Labels:
    """Return the numbers of the connected parts that are large enough, 1 being the largest."""
    parts, count = ndimage.label(mask, structure=_WHOLE)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:] * voxel_ml
    order: Sequence[int] = sorted(range(count), key=lambda k: (-sizes[k], k))
    numbers = np.zeros(count + 1, dtype=np.uint8)
    for number, k in enumerate([k for k in order if sizes[k] >= smallest_ml][:255], 1):
        numbers[k + 1] = number
    return np.asarray(numbers[parts], dtype=np.uint8)


def _regions(coarse: CoarseFinding, grid: Grid) -> tuple[Region, ...]:
    """Return the inner voxels of the organs that tell the contrast phase."""
    regions = []
    for organ, structure in _REGIONS.items():
        inner = coarse.shares[organ] > _SURE
        box = box_on_grid(coarse.lattice, box_of(inner, 0), grid) if inner.any() else None
        if box is None:
            continue
        mask = from_lattice(coarse.shares[organ], coarse.lattice, grid, box) > _SURE
        if mask.any():
            regions.append(Region(structure.value, box, mask))
    return tuple(regions)
