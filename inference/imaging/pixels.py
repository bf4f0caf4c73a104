"""Pixel Data of single-frame images as stored values, exactly as in the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from inference.errors import PixelsUnreadable
from inference.imaging.attributes import number
from inference.imaging.decoding import UNDECODABLE
from inference.imaging.limits import check_image
from inference.results import SeriesVolume, StoredValues


def stored_values(path: Path) -> StoredValues:
    """Decode one image.

    Returns
    -------
    array of int32, (rows, columns)

    Raises
    ------
    PixelsUnreadable
        No decoder reads it, it is damaged, it claims more than an image can be, or it is no single
        monochrome frame.
    """
    syntax = "unknown"
    try:
        dataset = pydicom.dcmread(path)
        syntax = dataset.file_meta.TransferSyntaxUID.name
        check_image(dataset)
        pixels = np.asarray(dataset.pixel_array)
    except UNDECODABLE as error:
        raise PixelsUnreadable(
            f"an image cannot be decoded (transfer syntax {syntax}, {type(error).__name__})"
        ) from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "iu":
        raise PixelsUnreadable("an image is not one frame of whole grey values")
    return pixels.astype(np.int32)


def rescale(header: Dataset) -> tuple[float, float]:
    """Return Rescale Slope and Rescale Intercept; 1 and 0 where a file has neither.

    Raises
    ------
    PixelsUnreadable
        The slope is zero or not a number.
    """
    slope = number(header, "RescaleSlope") if "RescaleSlope" in header else 1.0
    intercept = number(header, "RescaleIntercept") if "RescaleIntercept" in header else 0.0
    if slope is None or intercept is None or slope == 0 or not np.isfinite((slope, intercept)).all():
        raise PixelsUnreadable("Rescale Slope or Rescale Intercept is not usable")
    return slope, intercept


def stored_range(volume: SeriesVolume) -> tuple[int, int]:
    """Return the least and largest stored value that the pixel format holds (PS3.5 8.1.1)."""
    header = volume.headers[0]
    bits = int(header.get("BitsStored", 16))
    if int(header.get("PixelRepresentation", 0)):
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1
