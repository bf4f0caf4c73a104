"""A site's own CT studies with a liver mask: the real livers into which tumours are implanted.

Studies come as segmented cases do (`inference.evaluation.segmentation_cases`): a table ``cases.csv``, or
a folder for each case with volume files or with DICOM images and a segmentation object. Rows of the
table with one name in the column ``case`` are the phases of one study, which the column ``phase`` names.

What the study shows of tumours of its own stays in the image as it is. It is no liver to the
simulation: nothing is implanted there, it never changes, and it counts in no volume.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from inference.case import ClinicalRecord, Phase
from inference.errors import RejectedInput, SegmentationMissing, TrainingDataError
from inference.evaluation.segmentation_cases import (
    TABLE,
    CaseFiles,
    LabelValues,
    SegmentationCase,
    case_folders,
    find_cases,
    read_case_volumes,
)
from inference.imaging.boxes import box_of
from inference.imaging.overlap import Spacing
from inference.imaging.phase_evidence import PhaseReader
from inference.imaging.resampling import aligned_grid, as_bytes, resampled, share_of
from inference.models.seg_in_study import SegInStudy
from inference.results import Grid, Labels, Mask, Tissue, Voxels
from inference.settings import Frozen, SegmentationLimits
from inference.simulation.cohort_patient import PHASES
from inference.training.cohort import CROP, NO_VALUE, SPACING_MM, HalfPrecision
from inference.training.site_reading import ReadStudy, acquired_values, read_study, read_without_tumour

CT_PHASES = PHASES["CT"]
"""Phases of a CT cohort, in the order of its channels; other phases of a study are not used."""

_LESIONS = (Tissue.VIABLE, Tissue.NECROSIS, Tissue.LIPIODOL)


class AnatomyLimits(Frozen):
    """What a study must be like for tumours to be implanted into its liver."""

    smallest_liver_ml: float = 300.0
    largest_own_share: float = 0.30
    """Of the liver, that the study's own tumours hold."""
    own_margin_mm: float = 3.0
    """Round the study's own tumours; nothing is implanted there either."""
    liver_hu: tuple[float, float] = (20.0, 250.0)
    """Between which the liver's median must lie in every phase."""


@dataclass(frozen=True, slots=True)
class AnatomySource:
    """What a site hands in.

    Attributes
    ----------
    folder : of segmented cases
    values : which labels of volume files are liver and tumour
    phase : of volume files for which the table names none, or None
    reader : tells contrast phases of DICOM studies from the images, or None
    """

    folder: Path
    values: LabelValues = LabelValues()
    phase: Phase | None = None
    reader: PhaseReader | None = None
    limits: AnatomyLimits = AnatomyLimits()


@dataclass(frozen=True, slots=True)
class SiteAnatomy:
    """One real liver on the grid of a cohort's crop.

    Attributes
    ----------
    images : array of int16, (phase, z, y, x)
        HU; `NO_VALUE` where nothing was acquired, and in all of a phase that the study lacks.
    liver : array of uint8, (z, y, x)
        Share of the voxel that is liver without the study's own tumours, 0 to 255.
    spacing_mm : (z, y, x) of the study
    """

    images: HalfPrecision
    liver: Labels
    spacing_mm: Spacing

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Phases that the study has, in the order of a cohort's channels."""
        return tuple(p for p, i in zip(CT_PHASES, self.images, strict=True) if (i != NO_VALUE).any())

    @property
    def digest(self) -> str:
        """SHA-256 over all of it."""
        total = hashlib.sha256(repr([round(s, 4) for s in self.spacing_mm]).encode())
        for array in (self.images, self.liver):
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def save(self, folder: Path) -> Path:
        """Write it under its digest, unless it is there."""
        path = prepared_path(folder, self.digest)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            with temporary.open("wb") as file:
                np.savez_compressed(
                    file, images=self.images, liver=self.liver, spacing_mm=np.array(self.spacing_mm)
                )
            temporary.replace(path)
        return path

    @classmethod
    def load(cls, folder: Path, digest: str) -> SiteAnatomy:
        """Read one by its digest.

        Raises
        ------
        TrainingDataError
            It is not there, or was changed.
        """
        try:
            with np.load(prepared_path(folder, digest), allow_pickle=False) as stored:
                z, y, x = (float(s) for s in stored["spacing_mm"])
                found = cls(stored["images"], stored["liver"], (z, y, x))
        except (OSError, ValueError, KeyError) as error:
            raise TrainingDataError("a prepared anatomy of the cohort cannot be read") from error
        if found.digest != digest:
            raise TrainingDataError("a prepared anatomy of the cohort was changed")
        return found


def prepared_path(folder: Path, digest: str) -> Path:
    """Return where the study of a digest is kept."""
    return folder / f"{digest[:24]}.npz"


# ------------------------------------------------------------------ a folder


def list_studies(source: AnatomySource) -> tuple[tuple[str, tuple[CaseFiles, ...]], ...]:
    """Return the studies of a folder with their files; a study without a liver mask has none.

    Raises
    ------
    TrainingDataError
        There is no such folder, no study in it, or its table cannot be used.
    """
    if not source.folder.is_dir():
        raise TrainingDataError(f"there is no folder {source.folder.name} of studies")
    studies: dict[str, list[CaseFiles]] = {}
    for files in find_cases(source.folder, "CT"):
        studies.setdefault(files.name, []).append(files)
    if not (source.folder / TABLE).is_file():
        for name, path in case_folders(source.folder):
            if any(p.is_file() for p in path.rglob("*")):
                studies.setdefault(name, [])
    return tuple((name, tuple(studies[name])) for name in sorted(studies))


def read_anatomy(files: Sequence[CaseFiles], source: AnatomySource) -> SiteAnatomy:
    """Prepare one study of those that `list_studies` gives.

    Raises
    ------
    InferenceError
        It cannot be used; the message says why.
    """
    if not files:
        raise SegmentationMissing("there is no liver mask: no label file lies beside the image")
    if files[0].label is None:
        study = _dicom_study(files[0].image, source.reader)
    else:
        study = _volume_study(files, source)
    return _prepared(study, source.limits)


@dataclass(frozen=True, slots=True)
class _Study:
    """A study on its own grid; `own` is its own tumour."""

    images: Mapping[Phase, Voxels]
    grid: Grid
    liver: Mask
    own: Mask


# ------------------------------------------------------------------ readers


def _volume_study(files: Sequence[CaseFiles], source: AnatomySource) -> _Study:
    images: dict[Phase, Voxels] = {}
    first: SegmentationCase | None = None
    own: Mask | None = None
    for one in files:
        phase = _phase_of(one, source.phase)
        case = read_case_volumes(one, source.values)
        _check_ct(case.modality)
        if phase in images:
            raise TrainingDataError(f"two images of the study are {_shown(phase)}")
        if first is not None and not _same_grid(first, case):
            raise TrainingDataError("the phases of the study lie on different grids")
        first, own = first or case, case.tumour if own is None else own | case.tumour
        images[phase] = case.volume
    if first is None or own is None:
        raise SegmentationMissing("the study has no image")
    return _Study(images, _grid(first.volume.shape, first.spacing_mm), first.liver | own, own)


def _phase_of(files: CaseFiles, default: Phase | None) -> Phase:
    if not files.phase:
        if default is None:
            raise RejectedInput(
                "its contrast phase is not known: a volume file does not say; name it in the column "
                f"phase of {TABLE}, or give the phase of all that have none"
            )
        return default
    try:
        return Phase(files.phase.strip().lower().replace(" ", "_"))
    except ValueError as error:
        known = ", ".join(p.value for p in CT_PHASES)
        raise RejectedInput(f"its phase is none that is known (give {known})") from error


def _shown(phase: Phase) -> str:
    return phase.value.replace("_", " ")


def _check_ct(modality: str) -> None:
    if modality != "CT":
        raise RejectedInput(f"it is {modality}; tumours are implanted into CT only")


def _same_grid(a: SegmentationCase, b: SegmentationCase) -> bool:
    return a.volume.shape == b.volume.shape and np.allclose(a.spacing_mm, b.spacing_mm, atol=1e-3)


def _grid(shape: Sequence[int], spacing_mm: Spacing) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing_mm, 1.0
    return Grid((shape[0], shape[1], shape[2]), affine, "")


def _dicom_study(folder: Path, reader: PhaseReader | None) -> _Study:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    study = _with_or_without_tumour(files, reader)
    _check_ct(study.baseline.primary.modality)
    images = {v.phase: acquired_values(v) for v in study.baseline.volumes}
    return _Study(images, study.baseline.primary.grid, study.organ(), study.in_full(*_LESIONS))


def _with_or_without_tumour(files: Sequence[Path], reader: PhaseReader | None) -> ReadStudy:
    """Read a study by its segmentation object, which may have a liver alone."""
    limits, unknown = SegmentationLimits(), ClinicalRecord({})
    try:
        return read_study(files, unknown, SegInStudy(), limits, reader)
    except SegmentationMissing:
        return read_without_tumour(files, unknown, limits, reader)


# ------------------------------------------------------------------ preparation


def _prepared(study: _Study, limits: AnatomyLimits) -> SiteAnatomy:
    study = _with_used_phases(study)
    box = box_of(study.liver, 4) if study.liver.any() else None
    if box is None:
        raise SegmentationMissing("the liver mask is empty")
    small = _Study(
        {p: i[box.slices] for p, i in study.images.items()},
        study.grid.part(box),
        study.liver[box.slices],
        study.own[box.slices] & study.liver[box.slices],
    )
    free = _without_own(small, limits)
    _check_values(small.images, free, limits)
    corners = small.grid.to_patient(np.argwhere(small.liver))
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2.0
    target = aligned_grid(centre, CROP, SPACING_MM, study.grid.frame_of_reference_uid)
    images = np.full((len(CT_PHASES), *CROP), NO_VALUE, np.int16)
    for channel, phase in enumerate(CT_PHASES):
        if phase in study.images:
            found = resampled(study.images[phase], study.grid, target)
            rounded = np.rint(np.clip(np.nan_to_num(found), -1200.0, 4000.0))
            images[channel] = np.where(np.isfinite(found), rounded, NO_VALUE).astype(np.int16)
    share = as_bytes(share_of(free, small.grid, target))
    share[~(images != NO_VALUE).any(axis=0)] = 0
    return SiteAnatomy(images, share, study.grid.spacing_mm)


def _with_used_phases(study: _Study) -> _Study:
    used = {p: study.images[p] for p in CT_PHASES if p in study.images}
    if not used:
        there = ", ".join(sorted(_shown(p) for p in study.images))
        wanted = " nor ".join(_shown(p) for p in CT_PHASES)
        raise RejectedInput(f"it has neither an {wanted} phase (it has: {there})")
    return replace(study, images=used)


def _without_own(study: _Study, limits: AnatomyLimits) -> Mask:
    """Return the liver without the study's own tumours and their margin."""
    liver_ml = float(study.liver.sum()) * study.grid.voxel_ml
    own_ml = float(study.own.sum()) * study.grid.voxel_ml
    if own_ml > limits.largest_own_share * liver_ml:
        raise RejectedInput(
            f"its own tumours hold {own_ml / liver_ml:.0%} of the liver "
            f"(at most {limits.largest_own_share:.0%})"
        )
    free = study.liver
    if study.own.any():
        away = ndimage.distance_transform_edt(~study.own, sampling=study.grid.spacing_mm)
        free = study.liver & (away > limits.own_margin_mm)
    free_ml = float(free.sum()) * study.grid.voxel_ml
    if free_ml < limits.smallest_liver_ml:
        raise RejectedInput(
            f"the liver is too small: {free_ml:.0f} ml without its own tumours "
            f"(at least {limits.smallest_liver_ml:.0f} ml)"
        )
    return np.asarray(free)


def _check_values(images: Mapping[Phase, Voxels], liver: Mask, limits: AnatomyLimits) -> None:
    low, high = limits.liver_hu
    for phase, image in images.items():
        values = image[liver & np.isfinite(image)]
        median = float(np.median(values)) if values.size else float("nan")
        if not low <= median <= high:
            raise RejectedInput(
                f"the liver's median is {median:.0f} in the {_shown(phase)} phase, "
                f"which is not HU of a liver ({low:.0f} to {high:.0f})"
            )
