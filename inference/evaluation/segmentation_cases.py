"""Cases with a reference segmentation, from folders of images and labels.

A folder of cases is one of:

* a table ``cases.csv`` with the columns ``case``, ``image``, ``label`` and, if not all are CT,
  ``modality``, and ``phase`` where the contrast phase matters; paths are relative to the folder.
  ``image`` is a NIfTI (or other volume file that SimpleITK reads) or a folder of DICOM files;
  ``label`` is a volume file of labels;
* or, without a table, a folder for each case with ``image*`` and ``label*`` (volume files), or with
  DICOM files among which there is a segmentation object of the liver.

Volumes are brought into the order (z, y, x) with z towards the head, y towards the back and x towards
the patient's left.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from inference.errors import TrainingDataError
from inference.imaging.overlap import Spacing
from inference.results import Labels, Mask, Voxels

TABLE = "cases.csv"
LIVER, TUMOUR = 1, 2
"""Labels of a segmenter: liver without tumours, and tumours; other labels are other organs."""

_VOLUMES = (".nii", ".nii.gz", ".mha", ".nrrd")

SegmentVolume = Callable[[Voxels, Spacing, str], Labels]
"""Maps (HU or MR signal (z, y, x), spacing in mm, modality) to labels (z, y, x)."""


@dataclass(frozen=True, slots=True)
class LabelValues:
    """Which values of a reference are liver (tumours included), and which are tumour."""

    liver: tuple[int, ...] = (LIVER, TUMOUR)
    tumour: tuple[int, ...] = (TUMOUR,)


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """Where a case lies; `label` is None where the truth is a segmentation object among the images.

    `name` and `phase` are as the table has them; without a table `name` is from `case_folders`.
    """

    name: str
    image: Path
    label: Path | None
    modality: str
    phase: str = ""


@dataclass(frozen=True, slots=True)
class SegmentationCase:
    """One case, in memory.

    Attributes
    ----------
    volume : array of float32, (z, y, x)
    spacing_mm : (z, y, x)
    liver, tumour : array of bool, (z, y, x)
        The reference; the liver includes its tumours.
    """

    name: str
    modality: str
    volume: Voxels
    spacing_mm: Spacing
    liver: Mask
    tumour: Mask


def find_cases(folder: Path, modality: str) -> tuple[CaseFiles, ...]:
    """List the cases of a folder.

    Raises
    ------
    TrainingDataError
        There is none, or the table lacks a column or names a file that is not there.
    """
    table = folder / TABLE
    found = _from_table(table, modality) if table.is_file() else tuple(_from_folders(folder, modality))
    if not found:
        raise TrainingDataError(f"{folder.name} has neither a {TABLE} nor a folder with an image and a label")
    return found


def _from_table(table: Path, modality: str) -> tuple[CaseFiles, ...]:
    with table.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    found = []
    for number, row in enumerate(rows, 2):
        if not row.get("image") or not row.get("label"):
            raise TrainingDataError(f"{TABLE}, row {number}: the columns image and label are needed")
        image, label = table.parent / row["image"], table.parent / row["label"]
        for path in (image, label):
            if not path.exists():
                raise TrainingDataError(f"{TABLE}, row {number}: there is no {path.name}")
        name = row.get("case") or f"case {number - 1}"
        found.append(CaseFiles(name, image, label, row.get("modality") or modality, row.get("phase") or ""))
    return tuple(found)


def case_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the folders of cases, named by their place in the order of their names.

    What a site calls its folders may be the name of a patient, and stays out of messages and reports.
    """
    for number, case in enumerate(sorted(p for p in folder.iterdir() if p.is_dir()), 1):
        yield f"folder {number:03d}", case


def _from_folders(folder: Path, modality: str) -> Iterator[CaseFiles]:
    for name, case in case_folders(folder):
        image, label = _volume_file(case, "image"), _volume_file(case, "label")
        if image is not None and label is not None:
            yield CaseFiles(name, image, label, modality)
        elif image is None and any(p.is_file() for p in case.rglob("*")):
            yield CaseFiles(name, case, None, modality)


def _volume_file(folder: Path, stem: str) -> Path | None:
    found = sorted(p for p in folder.glob(f"{stem}*") if p.name.endswith(_VOLUMES))
    return found[0] if found else None


def read_case_volumes(files: CaseFiles, values: LabelValues) -> SegmentationCase:
    """Read image and reference of a case.

    Raises
    ------
    TrainingDataError
        A file cannot be read, or the reference lies on another grid than the image.
    RejectedInput
        A DICOM study that the product would refuse.
    """
    if files.label is None:
        return _dicom_case(files)
    image, label = _oriented(files.image), _oriented(files.label)
    if image.GetSize() != label.GetSize() or not np.allclose(
        image.GetSpacing(), label.GetSpacing(), atol=1e-3
    ):
        raise TrainingDataError(f"{files.name}: the label lies on another grid than the image")
    x, y, z = image.GetSpacing()
    labels = np.rint(sitk.GetArrayFromImage(label)).astype(np.int64)
    volume = sitk.GetArrayFromImage(image).astype(np.float32)
    liver, tumour = np.isin(labels, values.liver), np.isin(labels, values.tumour)
    return SegmentationCase(files.name, files.modality, volume, (z, y, x), liver, tumour)


def _oriented(path: Path) -> Any:
    try:
        image: Any = _dicom_series(path) if path.is_dir() else sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise TrainingDataError(f"{path.name} cannot be read as a volume") from error
    if image.GetDimension() != 3:
        raise TrainingDataError(f"{path.name} is not one volume")
    toolkit: Any = sitk
    return toolkit.DICOMOrient(image, "LPS")


def _dicom_series(folder: Path) -> Any:
    reader: Any = sitk.ImageSeriesReader
    names = reader.GetGDCMSeriesFileNames(str(folder))
    if not names:
        raise TrainingDataError(f"a folder that {TABLE} names has no DICOM series")
    return sitk.ReadImage(names)


def _dicom_case(files: CaseFiles) -> SegmentationCase:
    """Read a study the way the pipeline does, with the segmentation object in it as the reference."""
    from inference.imaging.reading import read_case
    from inference.models.seg_in_study import SegInStudy
    from inference.results import Tissue
    from inference.stages.load import load
    from inference.stages.selection import select

    case = read_case(files.image)
    baseline = load(select(case))
    found = SegInStudy().segment(case, baseline).labels
    grid = baseline.primary.grid
    tissue = np.zeros(grid.shape, dtype=np.uint8)
    tissue[found.box.slices] = found.tissue
    flip = _flips(grid.affine)
    tissue = tissue[flip]
    volume = baseline.primary.values()[flip]
    tumour = tissue >= Tissue.VIABLE
    return SegmentationCase(
        files.name,
        baseline.primary.modality,
        volume,
        grid.spacing_mm,
        np.asarray(tissue != Tissue.BACKGROUND),
        np.asarray(tumour),
    )


def _flips(affine: npt.NDArray[np.float64]) -> tuple[slice, ...]:
    """Return the index that turns a grid of axial slices into the order of `SegmentationCase`."""
    along = ((0, 2), (1, 1), (2, 0))
    signs = [affine[patient_axis, axis] for axis, patient_axis in along]
    return tuple(slice(None, None, -1 if s < 0 else 1) for s in signs)


def label_values(text: Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """Return the labels that were given, or the default."""
    return tuple(text) if text else default
