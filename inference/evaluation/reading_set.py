"""Export of a blinded reading set: real and virtual follow-ups mixed, on a 5-point scale.

What readers get is a folder with pictures, one sheet for each reader and instructions. Names are random
codes, pictures carry no metadata and all the same date, and every reader has an order of their own.
Which picture is virtual stands only in the key, which is written elsewhere. A patient appears once, as
real or as virtual, so that no pair of pictures gives the origin away.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from inference.errors import TrainingDataError
from inference.randomness import RandomStreams

READERS = 3
SCORE_MINIMUM, SCORE_MAXIMUM, PLAUSIBLE_FROM = 1, 5, 4
PIXELS = 288
"""Side of one slice in a picture."""

PICTURES = "pictures"
INSTRUCTIONS = "instructions.md"
SHEET_COLUMNS = ("item", "picture", "regimen", "months", "score", "comment")
KEY_COLUMNS = ("item", "origin", "source", "regimen", "months")
_EPOCH = 946_684_800
"""Time stamp of every file: 1 January 2000."""

_GAP = 6

SCALE = (
    (1, "not plausible: could not be a follow-up of this patient"),
    (2, "hardly plausible"),
    (3, "undecided"),
    (4, "plausible"),
    (5, "fully plausible: what I would expect to see"),
)


class ItemOrigin(StrEnum):
    """Where a follow-up comes from."""

    REAL = "real"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True)
class ReadingItem:
    """One follow-up to be read.

    Attributes
    ----------
    rows : array of float32, (rows, slices, h, w)
        Values 0 to 1; the first row is the baseline, each further one a phase of the follow-up.
    source : str
        What the key says of it: a pseudonym or the name of a folder.
    """

    rows: npt.NDArray[np.float32]
    origin: ItemOrigin
    source: str
    regimen: str
    months: str


def export_reading_set(
    items: Sequence[ReadingItem], out: Path, key: Path, streams: RandomStreams, readers: int = READERS
) -> tuple[Path, ...]:
    """Write the reading set and its key; returns the sheets.

    Raises
    ------
    TrainingDataError
        The folder is not empty, the key would lie inside it, or one origin is missing.
    """
    _check(items, out, key, readers)
    rng = streams.derive("reading set")
    codes = _codes(len(items), rng)
    shuffled = [items[i] for i in rng.permutation(len(items)).tolist()]
    coded = dict(zip(codes, shuffled, strict=True))
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    for code in sorted(coded):
        _write_picture(coded[code], out / PICTURES / f"{code}.png")
    sheets = []
    for reader in range(1, readers + 1):
        order = streams.derive("order", reader).permutation(np.array(codes)).tolist()
        path = out / f"reader_{reader}.csv"
        _write(path, SHEET_COLUMNS, [_sheet_row(code, coded[code]) for code in order])
        sheets.append(path)
    (out / INSTRUCTIONS).write_text(_instructions(len(items)), encoding="utf-8")
    _write_key(key, coded)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            os.utime(path, (_EPOCH, _EPOCH))
    return tuple(sheets)


def _check(items: Sequence[ReadingItem], out: Path, key: Path, readers: int) -> None:
    if out.exists() and any(out.iterdir()):
        raise TrainingDataError("the folder of the reading set is not empty")
    if out.resolve() in key.resolve().parents:
        raise TrainingDataError("the key must not lie in the folder that readers get")
    if {i.origin for i in items} != set(ItemOrigin):
        raise TrainingDataError("a reading set needs real and virtual follow-ups")
    if len({i.rows.shape[:2] for i in items}) > 1:
        raise TrainingDataError("pictures with different numbers of slices or phases would tell their origin")
    if readers < 1:
        raise TrainingDataError("a reading set needs at least one reader")


def _codes(count: int, rng: np.random.Generator) -> list[str]:
    """Return distinct codes of six digits."""
    return [f"{n:06d}" for n in (100_000 + rng.choice(900_000, count, replace=False)).tolist()]


def _sheet_row(code: str, item: ReadingItem) -> tuple[str, ...]:
    return code, f"{PICTURES}/{code}.png", item.regimen, item.months, "", ""


def _write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def _write_key(path: Path, coded: dict[str, ReadingItem]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(c, str(i.origin), i.source, i.regimen, i.months) for c, i in sorted(coded.items())]
    _write(path, KEY_COLUMNS, rows)
    path.chmod(0o600)


def _instructions(count: int) -> str:
    lines = [
        "# Reading set",
        "",
        f"{count} pictures. The upper row of each is the baseline before treatment, the rows below are",
        "the same slices at the follow-up after the treatment and the months that the sheet names.",
        "Some follow-ups are real and some are computed. Read them in the order of your sheet, alone,",
        "without looking at other sheets, and write one score for each:",
        "",
    ]
    lines += [f"- {score}: {words}" for score, words in SCALE]
    return "\n".join([*lines, "", "Every picture needs a whole number from 1 to 5.", ""])


# ------------------------------------------------------------------ pictures


def _write_picture(item: ReadingItem, path: Path) -> None:
    rows, slices = item.rows.shape[:2]
    height, width = (n * (PIXELS + _GAP) - _GAP for n in (rows, slices))
    sheet = np.zeros((height, width), dtype=np.uint8)
    for r in range(rows):
        for s in range(slices):
            top, left = r * (PIXELS + _GAP), s * (PIXELS + _GAP)
            sheet[top : top + PIXELS, left : left + PIXELS] = _square(item.rows[r, s])
    Image.fromarray(sheet).save(path, format="PNG")


def _square(image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return a slice as a square of `PIXELS`, its shape kept, black at the sides."""
    side = max(image.shape)
    padded = np.zeros((side, side), dtype=np.float32)
    top, left = (side - image.shape[0]) // 2, (side - image.shape[1]) // 2
    padded[top : top + image.shape[0], left : left + image.shape[1]] = image
    grey = Image.fromarray(np.rint(padded * 255).astype(np.uint8))
    return np.asarray(grey.resize((PIXELS, PIXELS), Image.Resampling.BICUBIC), dtype=np.uint8)
