"""The label that is burned into air on every virtual slice.

The rectangle is one for all virtual series of a study, and ``result.json`` records it. Where no
rectangle in air is large enough for a legible label, no virtual image is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from inference.errors import RejectedInput
from inference.imaging.marker import PixelBox, find_common_marker_box
from inference.imaging.pixels import stored_range
from inference.results import (
    RegimenForecast,
    SeriesVolume,
    StoredValues,
    StudyResults,
    TimePoint,
)
from reporting.common import months_text, time_points

FONT_SIZES = (16, 14, 12, 10, 8)
"""Tried from the largest; below 8 pixels nobody reads it."""

LINE_LETTERS = (22, 14)
"""Lines are broken after about this many letters; fewer where a narrow label fits and a wide one does not."""

_MARGIN = 3
_TEXT_HU, _GROUND_HU = 700.0, -1000.0


Ink = npt.NDArray[np.float64]
"""Text as a raster of 0 to 1, (rows, columns)."""


class NoRoomForMarker(RejectedInput):
    """No air is left on the images for the label that a virtual image must carry."""


@dataclass(frozen=True, slots=True)
class Marker:
    """Where the label lies and how large its letters are."""

    box: PixelBox
    font_size: int
    line_letters: int = LINE_LETTERS[0]


def place_marker(results: StudyResults) -> Marker:
    """Find one rectangle in air, on all slices of all series, that holds every label of the study.

    Raises
    ------
    NoRoomForMarker
        There is none.
    """
    for size, letters in product(FONT_SIZES, LINE_LETTERS):
        labels = [marker_lines(results, f, p, letters) for f, p in time_points(results)]
        box = find_common_marker_box(results.baseline.volumes, _extent(labels, size))
        if box is not None:
            return Marker(box, size, letters)
    raise NoRoomForMarker(
        "The images leave no room in air for the label that a virtual image must carry, "
        "so none was made; a larger field of view would have it."
    )


def marker_lines(
    results: StudyResults, forecast: RegimenForecast, point: TimePoint, letters: int
) -> tuple[str, ...]:
    """Return the label of one time point."""
    texts = [f"AI VIRTUAL +{months_text(point.generated.months)} MO", forecast.name, "NOT ACQUIRED"]
    if results.demonstration:
        texts.append("DEMONSTRATION MODEL")
    return tuple(line for text in texts for line in _broken(text, letters))


def burn(stored: StoredValues, volume: SeriesVolume, index: int, marker: Marker, ink: Ink) -> None:
    """Write a label into one slice of stored values, (rows, columns), in place.

    Letters are bright on the value of air, and both lie within what the source's bits can store.
    """
    row0, col0, row1, col1 = marker.box
    ground, text = _grey_levels(volume, index)
    stored[row0:row1, col0:col1] = np.rint(ground + (text - ground) * ink)


def draw(lines: Sequence[str], marker: Marker) -> Ink:
    """Draw the lines of a label at the size of the marker's box; 0 is ground, 1 is ink."""
    row0, col0, row1, col1 = marker.box
    return _raster(lines, marker.font_size, (row1 - row0, col1 - col0))


def _grey_levels(volume: SeriesVolume, index: int) -> tuple[int, int]:
    """Return stored values of ground and letters."""
    low, high = stored_range(volume)
    if volume.modality == "CT":
        slope, intercept = volume.slope[index], volume.intercept[index]
        ground, text = ((hu - intercept) / slope for hu in (_GROUND_HU, _TEXT_HU))
    else:
        ground, text = 0.0, float(np.percentile(volume.stored[index], 99.5))
        if volume.headers[index].get("PhotometricInterpretation") == "MONOCHROME1":
            ground, text = text, ground
    return int(np.clip(round(ground), low, high)), int(np.clip(round(text), low, high))


def _broken(text: str, letters: int) -> list[str]:
    """Break a text at blanks into lines of at most about this many letters."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(longer) > letters:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _line_height(size: int) -> int:
    return round(size * 1.25)


def _extent(labels: Sequence[Sequence[str]], size: int) -> tuple[int, int]:
    """Return (rows, columns) that hold every label."""
    font = _font(size)
    columns = max(font.getbbox(line, mode="1")[2] for lines in labels for line in lines)
    rows = max(len(lines) for lines in labels) * _line_height(size)
    return rows + 2 * _MARGIN, int(np.ceil(columns)) + 2 * _MARGIN


def _pen(image: Image.Image) -> ImageDraw.ImageDraw:
    """Return a pen whose letters have no grey edges.

    Half a letter's value would be air in most windows, and the letter would fall apart.
    """
    pen = ImageDraw.Draw(image)
    pen.fontmode = "1"
    return pen


def _raster(lines: Sequence[str], size: int, shape: tuple[int, int]) -> Ink:
    """Draw lines of text; 0 is ground, 1 is ink."""
    image = Image.new("L", (shape[1], shape[0]), 0)
    pen = _pen(image)
    font = _font(size)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + number * _line_height(size)), line, fill=255, font=font)
    return np.asarray(image, dtype=np.float64) / 255.0
