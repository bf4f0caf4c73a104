"""The label burned into virtual images: a bitmap font, and the choice of one rectangle in air.

The font is a table here, so that the pixels depend on no font library.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.imaging.marker import PixelBox, find_common_marker_box
from inference.results import Mask, SeriesVolume
from reporting.errors import NoRoomForMarker

GLYPH_ROWS, GLYPH_COLUMNS = 7, 5
LINE_ROWS, ADVANCE = 10, 6
MARGIN = 3
WIDTHS = (26, 22, 18, 14, 11)
"""Characters to a line that are tried, widest first."""

LARGE_IMAGE_COLUMNS = 900
"""From this many columns the label is drawn at twice the size."""

_ROWS: Mapping[str, str] = {
    # each digit pair is one row of five pixels, the highest bit on the left
    " ": "00000000000000",
    "A": "0e11111f111111",
    "B": "1e11111e11111e",
    "C": "0e11101010110e",
    "D": "1e11111111111e",
    "E": "1f10101e10101f",
    "F": "1f10101e101010",
    "G": "0e11101713110f",
    "H": "1111111f111111",
    "I": "0e04040404040e",
    "J": "0702020202120c",
    "K": "11121418141211",
    "L": "1010101010101f",
    "M": "111b1515111111",
    "N": "11191915131311",
    "O": "0e11111111110e",
    "P": "1e11111e101010",
    "Q": "0e11111115120d",
    "R": "1e11111e141211",
    "S": "0f10100e01011e",
    "T": "1f040404040404",
    "U": "1111111111110e",
    "V": "11111111110a04",
    "W": "1111111515150a",
    "X": "11110a040a1111",
    "Y": "11110a04040404",
    "Z": "1f01020408101f",
    "0": "0e11131519110e",
    "1": "040c040404040e",
    "2": "0e11010204081f",
    "3": "1f02040201110e",
    "4": "02060a121f0202",
    "5": "1f101e0101110e",
    "6": "0608101e11110e",
    "7": "1f010204080808",
    "8": "0e11110e11110e",
    "9": "0e11110f01020c",
    "+": "0004041f040400",
    "-": "0000001f000000",
    "/": "00010204081000",
    ".": "00000000000c0c",
    "%": "18190204081303",
    "(": "02040808080402",
    ")": "08040202020408",
    "?": "0e110102040004",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the label is, how wide its lines are, and the size of a font pixel in image pixels."""

    box: PixelBox
    characters: int
    scale: int


def draw(text: str, placement: Placement) -> Mask:
    """Return which pixels of the placement's box are ink, (rows, columns)."""
    row0, column0, row1, column1 = placement.box
    ink = np.zeros((row1 - row0, column1 - column0), dtype=bool)
    scale = placement.scale
    for k, line in enumerate(_lines(text, placement.characters)):
        drawn = np.kron(_line(line), np.ones((scale, scale), dtype=bool))
        top, left = scale * (MARGIN + k * LINE_ROWS), scale * MARGIN
        ink[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return ink


def place(texts: Sequence[str], volumes: Sequence[SeriesVolume]) -> Placement:
    """Return one rectangle that holds each of the texts and lies in air in each of the volumes.

    Raises
    ------
    NoRoomForMarker
        There is none, however the lines are broken.
    """
    columns = volumes[0].grid.shape[2]
    largest = 2 if columns >= LARGE_IMAGE_COLUMNS else 1
    for scale in range(largest, 0, -1):
        for characters in WIDTHS:
            box = find_common_marker_box(volumes, _size(texts, characters, scale))
            if box is not None:
                return Placement(box, characters, scale)
    raise NoRoomForMarker(
        "the body fills the images, so that the label which virtual images must carry finds no room in air"
    )


def _size(texts: Sequence[str], characters: int, scale: int) -> tuple[int, int]:
    lines = [_lines(text, characters) for text in texts]
    most = max(len(found) for found in lines)
    longest = max(len(line) for found in lines for line in found)
    rows = 2 * MARGIN + (most - 1) * LINE_ROWS + GLYPH_ROWS
    columns = 2 * MARGIN + (longest - 1) * ADVANCE + GLYPH_COLUMNS
    return scale * rows, scale * columns


def _lines(text: str, characters: int) -> list[str]:
    """Break each line of a text at spaces; a word that is too long is broken too."""
    return [part for line in text.upper().split("\n") for part in textwrap.wrap(line, characters)]


def _line(text: str) -> Mask:
    drawn = np.zeros((GLYPH_ROWS, ADVANCE * len(text)), dtype=bool)
    for k, character in enumerate(text):
        rows = bytes.fromhex(_ROWS.get(character, _ROWS["?"]))
        bits = np.unpackbits(np.frombuffer(rows, dtype=np.uint8).reshape(-1, 1), axis=1)[:, -GLYPH_COLUMNS:]
        drawn[:, ADVANCE * k : ADVANCE * k + GLYPH_COLUMNS] = bits.astype(bool)
    return drawn
