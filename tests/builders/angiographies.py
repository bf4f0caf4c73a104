"""Angiographies in which a vessel fills and empties, as arrays and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.builders.reports import Person, angiogram, written

SIDE, FRAMES = 48, 5


def run(filling: float, side: int = SIDE, bright: float = 1000.0) -> np.ndarray:
    """Return a run over a lattice, in which a vessel fills until the middle frame and empties."""
    y, x = np.mgrid[:side, :side] / side
    background = bright * (1.0 + 0.2 * np.sin(9 * x))
    vessel = np.exp(-(((y - 0.5) / 0.06) ** 2)) * (x < 0.7)
    course = filling * np.sin(np.linspace(0.0, np.pi, FRAMES))
    return np.rint(background * np.exp(-course[:, None, None] * vessel))


def write_run(folder: Path, frames: np.ndarray, number: int = 1, **attributes: object) -> Path:
    ds = angiogram(Person(), number)
    ds.Rows, ds.Columns, ds.NumberOfFrames = *frames.shape[1:], len(frames)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = frames.astype("<u2").tobytes()
    for name, value in attributes.items():
        setattr(ds, name, value)
    return written(ds, folder / f"run_{number}.dcm")
