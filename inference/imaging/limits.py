"""What an image may claim of itself before memory is spent on it.

A header, and the frame that it describes, come from outside. A few kilobytes can claim rows and columns
that take gigabytes to decode, or inflate a thousandfold; here such a file is refused by what it says,
before any of it is decoded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from inference.errors import PixelsUnreadable

MAXIMUM_ROWS = 4096
"""Of rows, and of columns. CT has 512 to 2048, MR less."""
MAXIMUM_PIXELS = 2**29
"""Of one file or one series: 2048 slices of 512 x 512."""
MAXIMUM_SEGMENTATION_PIXELS = 2**32
"""Of all frames of a segmentation, which has one for each segment and slice."""
MAXIMUM_INFLATED_BYTES = 512 * 1024**2
"""Of a deflated data set."""
SLACK_BYTES = 64 * 1024
"""By how much an encoded frame may exceed twice its decoded size: no encoder makes one so long."""
_CHUNK_BYTES = 1024**2

_J2K_START = b"\xff\x4f\xff\x51"
"""Start of codestream and its size segment (ISO/IEC 15444-1 annex A)."""
_JPEG_START = b"\xff\xd8"
_JPEG_SIZES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Start-of-frame markers of JPEG (ISO/IEC 10918-1 table B.1) and JPEG-LS (ISO/IEC 14495-1 annex C)."""


def check_image(dataset: Dataset) -> None:
    """Check what a file of one frame says of its pixels; raises as `check_claims`."""
    frames = _claimed(dataset, "NumberOfFrames", 1)
    if frames > 1:
        raise PixelsUnreadable(f"an image claims {frames} frames where one can be used")
    check_claims(dataset, MAXIMUM_PIXELS)


def check_claims(dataset: Dataset, maximum_pixels: int) -> None:
    """Check what a file says of its pixels, and that its compressed frames say the same.

    Parameters
    ----------
    maximum_pixels : int
        Of all frames together.

    Raises
    ------
    PixelsUnreadable
        Sizes beyond the limits, or another size in the compressed frame than in the header.
    """
    rows, columns = _claimed(dataset, "Rows"), _claimed(dataset, "Columns")
    frames = _claimed(dataset, "NumberOfFrames", 1)
    samples = _claimed(dataset, "SamplesPerPixel", 1)
    if rows > MAXIMUM_ROWS or columns > MAXIMUM_ROWS:
        raise PixelsUnreadable(
            f"an image claims {rows} rows and {columns} columns; at most {MAXIMUM_ROWS} are taken"
        )
    if rows * columns * frames * samples > maximum_pixels:
        raise PixelsUnreadable(
            f"an image claims {frames} frames of {rows} x {columns} pixels, too many to decode"
        )
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated and "PixelData" in dataset:
        _check_frames(dataset, rows, columns, frames)


def check_series(rows: int, columns: int, slices: int) -> None:
    """Check that a series can be held in memory; raises `PixelsUnreadable`."""
    if rows * columns * slices > MAXIMUM_PIXELS:
        raise PixelsUnreadable(
            f"the series has {slices} images of {rows} x {columns}, too many for one volume"
        )


def check_inflation(path: Path) -> None:
    """Check that a file in the deflated transfer syntax does not inflate beyond all measure.

    Raises
    ------
    PixelsUnreadable
        It does.
    InvalidDicomError, OSError
        As reading it would.
    """
    with path.open("rb") as file:
        read_preamble(file, force=False)
        head = file.read(12)
        if len(head) < 12 or head[:8] != b"\x02\x00\x00\x00UL\x04\x00":
            return  # without the length of its meta information nothing says where data begins
        (length,) = struct.unpack("<L", head[8:])
        meta = file.read(min(length, SLACK_BYTES))
        if DeflatedExplicitVRLittleEndian.encode("ascii") not in meta:
            return
        if not inflates_within(file.read, MAXIMUM_INFLATED_BYTES):
            raise PixelsUnreadable(f"the file inflates to more than {MAXIMUM_INFLATED_BYTES // 1024**2} MiB")


def inflates_within(read: Callable[[int], bytes], limit_bytes: int) -> bool:
    """Inflate a stream without keeping it; return whether its length is within the limit.

    Raises
    ------
    zlib.error
        It is no deflated stream.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while chunk := read(_CHUNK_BYTES):
        while chunk and not inflater.eof:
            total += len(inflater.decompress(chunk, _CHUNK_BYTES))
            if total > limit_bytes:
                return False
            chunk = inflater.unconsumed_tail
    return True


def _claimed(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword)
    if value in (None, "") and default is not None:
        return default
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise PixelsUnreadable(f"an image has no usable {keyword}") from error
    if number < 1:
        raise PixelsUnreadable(f"an image claims {number} as {keyword}")
    return number


def _check_frames(dataset: Dataset, rows: int, columns: int, frames: int) -> None:
    bits = _claimed(dataset, "BitsAllocated", 16)
    decoded_bytes = rows * columns * _claimed(dataset, "SamplesPerPixel", 1) * ((bits + 7) // 8)
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
            _check_frame(frame, decoded_bytes, syntax, (rows, columns))
    except (ValueError, IndexError, struct.error, EOFError) as error:
        raise PixelsUnreadable("the compressed pixels are damaged") from error


def _check_frame(frame: bytes, decoded_bytes: int, syntax: UID, header: tuple[int, int]) -> None:
    if len(frame) > 2 * decoded_bytes + SLACK_BYTES:
        raise PixelsUnreadable("a compressed frame is longer than the image that it should hold")
    coded = coded_size(frame, syntax)
    if coded is not None and coded != header:
        raise PixelsUnreadable(
            f"a compressed frame has {coded[0]} rows and {coded[1]} columns where the header says "
            f"{header[0]} and {header[1]}"
        )


def coded_size(frame: bytes, transfer_syntax_uid: UID) -> tuple[int, int] | None:
    """Return rows and columns that a compressed frame says it has; None where it says nothing.

    Raises
    ------
    PixelsUnreadable
        It is not compressed in its transfer syntax.
    """
    name = transfer_syntax_uid.name
    try:
        if "2000" in name:
            return _j2k_size(frame)
        if "JPEG" in name:
            return _jpeg_size(frame)
    except (ValueError, IndexError, struct.error) as error:
        raise PixelsUnreadable("a compressed frame is damaged, or not in its transfer syntax") from error
    return None


def _j2k_size(frame: bytes) -> tuple[int, int]:
    start = frame.index(_J2K_START) + len(_J2K_START)
    width, height, left, top = struct.unpack_from(">4L", frame, start + 4)
    return height - top, width - left


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    if not frame.startswith(_JPEG_START):
        raise ValueError("no start of image")
    at = len(_JPEG_START)
    while True:
        if frame[at] != 0xFF:
            raise ValueError("no marker where one belongs")
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", frame, at + 5)
            return height, width
        at += 2 + length
