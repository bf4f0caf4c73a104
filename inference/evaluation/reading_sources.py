"""Where the items of a reading set come from: a prepared cohort with a model, or DICOM folders."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from inference.errors import InferenceError, TrainingDataError
from inference.evaluation.forecasts import Detail, Forecaster
from inference.evaluation.questions import Known, choose, follow_up
from inference.evaluation.reading_set import ItemOrigin, ReadingItem
from inference.evaluation.slices import WINDOWS, added, shown_slices, windowed
from inference.imaging.parts import largest_part
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.training.cohort import Cohort, Split

STUDY_COLUMNS = ("baseline", "follow_up", "origin", "regimen", "months")
AIR_HU, AIR_BELOW_HU = -1000.0, -400.0
MR_AIR_SHARE = 0.1
SLICE_GAP_MM = 10.0

Floats = npt.NDArray[np.float32]


def items_of_cohort(
    cohort: Cohort,
    forecaster: Forecaster,
    split: Split,
    count: int,
    streams: RandomStreams,
    progress: Progress,
) -> tuple[ReadingItem, ...]:
    """Return follow-ups of a cohort, half of them real and half virtual, one for each patient.

    Raises
    ------
    TrainingDataError
        The split has no imaged follow-up, or the forecaster draws no images.
    """
    asked = choose(cohort, split, count, streams)
    virtual = streams.derive("origin").permutation(np.arange(len(asked)) % 2)
    items = []
    for index, (one, drawn) in enumerate(zip(asked, virtual.tolist(), strict=True)):
        progress(f"follow-up {index + 1} of {len(asked)}", index / len(asked))
        patient = cohort.images(one.patient_id)
        shown = list(shown_slices(patient.lesion))
        base = patient.images if patient.clean is None else patient.clean
        if drawn:
            answer = forecaster.forecast(
                Known.of(one.row, patient).question(one.main), 1, Detail.IMAGES, RandomStreams(streams.seed)
            )
            if answer.change is None:
                raise TrainingDataError(f"{forecaster.name} draws no images")
            images = added(base, answer.change[0])
        else:
            seen = follow_up(patient, one.main)
            if seen is None:
                continue
            images = seen.images
        stack = [base[0], *images]
        rows = np.stack([windowed(image[shown], cohort.info.modality) for image in stack])
        origin = ItemOrigin.VIRTUAL if drawn else ItemOrigin.REAL
        items.append(ReadingItem(rows, origin, one.patient_id, one.main.regimen_id, f"{one.main.months:g}"))
    progress("done", 1.0)
    return tuple(items)


def items_of_studies(table: Path, progress: Progress) -> tuple[ReadingItem, ...]:
    """Return follow-ups from DICOM folders, listed in a table.

    The table has the columns ``baseline``, ``follow_up`` (a folder of one series each, relative to the
    table), ``origin`` (real or virtual), ``regimen``, ``months`` and, optionally, ``z_mm``, the height
    of the middle slice in patient coordinates. Pictures show the inside of the body alone, so that a
    marker burned into the air beside it does not tell what is virtual.

    Raises
    ------
    TrainingDataError
        A column is missing, an origin is neither word, or a folder has no series.
    """
    with table.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened)
        missing = [c for c in STUDY_COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise TrainingDataError(f"{table.name} lacks the columns {', '.join(missing)}")
        rows = list(reader)
    items = []
    for index, row in enumerate(rows):
        progress(f"row {index + 1} of {len(rows)}", index / len(rows))
        items.append(_study_item(table, index + 2, row))
    progress("done", 1.0)
    return tuple(items)


def _study_item(table: Path, number: int, row: dict[str, str]) -> ReadingItem:
    if row["origin"] not in tuple(ItemOrigin):
        raise TrainingDataError(f"{table.name}, row {number}: the origin is neither real nor virtual")
    try:
        baseline = _series(table.parent / row["baseline"])
        after = _series(table.parent / row["follow_up"])
        height = float(row["z_mm"]) if row.get("z_mm") else None
        rows = _rows(baseline, after, height)
    except (InferenceError, ValueError, RuntimeError) as error:
        raise TrainingDataError(f"{table.name}, row {number}: {error}") from error
    return ReadingItem(rows, ItemOrigin(row["origin"]), row["follow_up"], row["regimen"], row["months"])


class _Series(NamedTuple):
    """A volume of SimpleITK along the axes of the patient, and its modality."""

    image: Any
    modality: str


def _series(folder: Path) -> _Series:
    toolkit: Any = sitk
    names = toolkit.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    if not names:
        raise TrainingDataError(f"there is no DICOM series in {folder.name}")
    reader = toolkit.ImageSeriesReader()
    reader.SetFileNames(names)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    # Turning an image loses what is noted on it, so the modality goes beside it.
    return _Series(toolkit.DICOMOrient(image, "LPS"), reader.GetMetaData(0, "0008|0060").strip())


def _rows(baseline: _Series, after: _Series, height_mm: float | None) -> Floats:
    toolkit: Any = sitk
    modality, fixed = baseline.modality, baseline.image
    air = AIR_HU if modality == "CT" else 0.0
    follow_up = toolkit.Resample(after.image, fixed, toolkit.Transform(), toolkit.sitkLinear, air)
    first, second = (toolkit.GetArrayFromImage(i).astype(np.float32) for i in (fixed, follow_up))
    spacing = float(fixed.GetSpacing()[2])
    origin = float(fixed.GetOrigin()[2])
    middle = len(first) // 2 if height_mm is None else round((height_mm - origin) / spacing)
    step = max(1, round(SLICE_GAP_MM / spacing))
    chosen = np.clip([middle - step, middle, middle + step], 0, len(first) - 1)
    shown = [_body_only(v[chosen], modality) for v in (first, second)]
    return _cropped(np.stack(shown))


def _body_only(slices: Floats, modality: str) -> Floats:
    """Return windowed slices, black outside the body."""
    low, high = WINDOWS["CT"] if modality == "CT" else np.percentile(slices, (1, 99.5)).tolist()
    level = AIR_BELOW_HU if modality == "CT" else MR_AIR_SHARE * high
    inside = np.stack([_largest(s > level) for s in slices])
    scaled = ((slices - low) / (high - low)).clip(0, 1)
    return np.where(inside, scaled, 0.0).astype(np.float32)


def _largest(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    opened = ndimage.binary_opening(mask, iterations=2)
    return np.asarray(ndimage.binary_fill_holes(largest_part(opened))) if opened.any() else mask


def _cropped(rows: Floats) -> Floats:
    """Return the part of the pictures that holds a body in any of them."""
    seen = (rows > 0).any(axis=(0, 1))
    found = ndimage.find_objects(seen.astype(np.uint8))
    if not found:
        return rows
    y, x = found[0]
    return rows[:, :, y, x]
