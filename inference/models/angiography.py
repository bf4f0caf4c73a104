"""Digital subtraction angiographies of a study as vectors, by an encoder without weights.

An angiography is a projection over time, of which neither the image encoder nor the slice features, made
for cross-sections of an outlined liver, can be asked. What is measured is how much contrast medium passes
where and when: the largest opacity of each pixel against the mask frame, as the lowest spatial frequencies,
quantiles of it, and the course of the mean opacity. It knows nothing of anatomy. The name of the encoder
goes into what is trained with it, and vectors of another name are not given to a model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from scipy.fft import dctn
from scipy.ndimage import zoom

from inference.errors import PixelsUnreadable
from inference.imaging.decoding import UNDECODABLE
from inference.models.evidence import AngiogramEvidence
from inference.results import FloatArray

_log = logging.getLogger(__name__)

ENCODER = "angiogram features 1"
WIDTH = 64
MOST_RUNS = 12
"""Runs of a study that are described; more of them are repetitions."""
MOST_PIXELS = 2**28
"""Of one run over all frames; a longer one would not fit into memory."""

_SIDE = 64
_FREQUENCIES = 7
_QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)
_COURSE_POINTS = 6
_SEEN = (0.1, 0.3)
"""Opacities, as natural logarithms of intensity ratios, above which a pixel counts as filled."""
_BOUND = 8.0
_SCALE = 10.0
"""Opacities are around a tenth; vectors of about unit size are learned from most easily."""


def describe_angiographies(files: Iterable[Path]) -> AngiogramEvidence | None:
    """Return a vector for each run; None where there is none that can be read.

    A run is one file of modality XA, of one or of many frames. One that cannot be decoded is passed over.
    """
    vectors = []
    for path in sorted(files)[:MOST_RUNS]:
        try:
            vectors.append(angiogram_vector(read_run(path)))
        except PixelsUnreadable as error:
            _log.warning("an angiography was passed over: %s", error)
    if not vectors:
        return None
    return AngiogramEvidence(ENCODER, np.stack(vectors).astype(np.float32))


def read_run(path: Path) -> FloatArray:
    """Return the frames of a run, (frames, rows, columns), bright where rays pass, the mask frame first.

    Raises
    ------
    PixelsUnreadable
        No decoder reads it, it is damaged, too large, or not monochrome.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        _check(header)
        pixels = np.asarray(pydicom.dcmread(path).pixel_array)
    except UNDECODABLE as error:
        raise PixelsUnreadable(f"a run cannot be decoded ({type(error).__name__})") from error
    frames = pixels.reshape((-1, *pixels.shape[-2:])).astype(np.float64)
    if str(header.get("PhotometricInterpretation", "")) == "MONOCHROME1":
        frames = frames.max() - frames
    mask = _mask_frame(header, len(frames))
    return np.concatenate([frames[mask : mask + 1], np.delete(frames, mask, axis=0)])


def _check(header: Dataset) -> None:
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise PixelsUnreadable("a run is in colour")
    frames = int(header.get("NumberOfFrames", 1) or 1)
    if frames * int(header.Rows) * int(header.Columns) > MOST_PIXELS:
        raise PixelsUnreadable("a run has too many frames")


def _mask_frame(header: Dataset, frames: int) -> int:
    """Return the index of the mask frame (PS3.3 C.7.6.10), the first where none is named."""
    for item in header.get("MaskSubtractionSequence") or ():
        numbers = item.get("MaskFrameNumbers")
        first = numbers[0] if isinstance(numbers, Sequence) else numbers
        if first is not None and 1 <= int(first) <= frames:
            return int(first) - 1
    return 0


def angiogram_vector(frames: npt.ArrayLike) -> FloatArray:
    """Return the vector of a run, (64,).

    Parameters
    ----------
    frames : array, (frames, rows, columns)
        Bright where rays pass; the mask frame first. A single frame, as of a run that was subtracted when
        it was stored, is compared with its own median.
    """
    run = np.asarray(frames, dtype=np.float64)
    floor = max(float(run.max()) * 0.02, 1.0)
    logs = np.log(np.maximum(run - min(float(run.min()), 0.0), 0.0) + floor)
    opacity = logs[:1] - logs[1:] if len(run) > 1 else float(np.median(logs)) - logs
    largest = np.maximum(opacity, 0.0).max(axis=0)
    small = zoom(
        largest, (_SIDE / largest.shape[0], _SIDE / largest.shape[1]), order=1, grid_mode=True, mode="nearest"
    )
    low = dctn(small, norm="ortho")[:_FREQUENCIES, :_FREQUENCIES].ravel() / _SIDE
    spread = [largest.mean(), largest.std(), *np.quantile(largest, _QUANTILES)]
    filled = [(largest > seen).mean() for seen in _SEEN]
    found = np.concatenate([_SCALE * low, _SCALE * np.array(spread), filled, _SCALE * _course(opacity)])
    return np.asarray(np.clip(found, -_BOUND, _BOUND))


def _course(opacity: FloatArray) -> FloatArray:
    """Mean opacity over the run at `_COURSE_POINTS` equal distances."""
    mean = np.maximum(opacity, 0.0).mean(axis=(1, 2))
    at = np.linspace(0.0, len(mean) - 1.0, _COURSE_POINTS)
    return np.asarray(np.interp(at, np.arange(len(mean)), mean))
