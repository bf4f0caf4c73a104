"""Files that claim or become more than an image can be are refused by what they say, with a reason."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import UnreadableObject
from dicom_node.intake.header import read_header
from inference.errors import PixelsUnreadable
from inference.imaging.limits import check_series, coded_size, inflates_within
from inference.imaging.pixels import stored_values
from inference.imaging.reading import read_case
from tests.builders.bombs import deflated_bomb
from tests.builders.dicom_files import ct_slice

MIB = 1024**2


def first_frame(ds: Dataset) -> bytes:
    return next(generate_frames(ds.PixelData, number_of_frames=1))


def saved(ds: Dataset, folder: Path) -> Path:
    path = folder / "image.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def refusal(path: Path) -> str:
    """Return why an image is refused, and see that no more than 64 MiB were taken for it."""
    tracemalloc.start()
    try:
        with pytest.raises(PixelsUnreadable) as error:
            stored_values(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB
    return str(error.value)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda u: u.keyword)
def test_compressed_images_are_read_as_before(tmp_path: Path, syntax) -> None:
    ds = ct_slice()
    expected = ds.pixel_array.copy()
    ds.compress(syntax, generate_instance_uid=False)
    assert (stored_values(saved(ds, tmp_path)) == expected).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "claims 65535 rows and 65535 columns"),
        ({"Rows": 4097}, "claims 4097 rows"),
        ({"Columns": 0}, "claims 0 as Columns"),
        ({"Rows": None}, "no usable Rows"),
        ({"NumberOfFrames": 2147483647}, "claims 2147483647 frames where one can be used"),
        ({"SamplesPerPixel": 60000, "Rows": 4096, "Columns": 4096}, "too many to decode"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True], ids=["native", "JPEG 2000"])
def test_absurd_dimensions_are_refused_before_decoding(
    tmp_path: Path, change: dict[str, int | None], reason: str, compressed: bool
) -> None:
    ds = ct_slice()
    if compressed:
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    assert reason in refusal(saved(ds, tmp_path))


def test_a_codestream_that_is_larger_than_its_header_is_not_decoded(tmp_path: Path) -> None:
    """60000 x 60000 in a few kilobytes: decoders take memory by what the codestream says."""
    ds = ct_slice()
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    frame = bytearray(first_frame(ds))
    at = frame.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">LL", frame, at, 60000, 60000)
    ds.PixelData = encapsulate([bytes(frame)])
    assert "60000 rows and 60000 columns where the header says 64 and 64" in refusal(saved(ds, tmp_path))


def test_a_jpeg_frame_that_is_larger_than_its_header_is_not_decoded(tmp_path: Path) -> None:
    ds = ct_slice()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    frame = bytearray(first_frame(ds))
    assert coded_size(bytes(frame), JPEGLSLossless) == (64, 64)
    struct.pack_into(">HH", frame, frame.index(b"\xff\xf7") + 5, 65000, 65000)
    ds.PixelData = encapsulate([bytes(frame)])
    assert "65000 rows" in refusal(saved(ds, tmp_path))


def test_a_frame_that_is_far_too_long_is_not_decoded(tmp_path: Path) -> None:
    ds = ct_slice()
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = encapsulate([first_frame(ds) + b"\x81\x00" * MIB])
    assert "longer than the image" in refusal(saved(ds, tmp_path))


@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1], ids=lambda u: u.keyword
)
@pytest.mark.parametrize(
    "frame", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"garbage" * 9, b"\xff\xd8" + b"\xff" * 50]
)
def test_a_damaged_frame_is_a_reason(tmp_path: Path, syntax, frame: bytes) -> None:
    with pytest.raises(PixelsUnreadable, match="damaged"):
        coded_size(frame, syntax)


def test_a_series_too_large_for_memory_is_refused() -> None:
    check_series(512, 512, 2000)
    with pytest.raises(PixelsUnreadable, match="too many for one volume"):
        check_series(4096, 4096, 2000)


def test_a_deflated_bomb_is_refused_at_the_door() -> None:
    content = deflated_bomb(ct_slice(), 600 * MIB)
    assert len(content) < MIB
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableObject, match="inflates to more than 512 MiB"):
            read_header(BytesIO(content), DeflatedExplicitVRLittleEndian)
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert (
        read_header(BytesIO(deflated_bomb(ct_slice(), 20 * MIB)), DeflatedExplicitVRLittleEndian).modality
        == "CT"
    )


def test_a_deflated_bomb_in_a_folder_is_left_out_with_its_reason(tmp_path: Path) -> None:
    good = ct_slice(number=2)
    good.save_as(tmp_path / "good.dcm", enforce_file_format=True)
    ds = ct_slice()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = saved(ds, tmp_path)
    content = path.read_bytes()
    (meta,) = struct.unpack_from("<L", content, 140)
    assert dcmread(path).Rows == 64
    path.write_bytes(content[: 144 + meta] + deflated_bomb(ct_slice(), 600 * MIB))
    (left_out,) = read_case(tmp_path).left_out
    assert left_out.path == path
    assert "inflates to more than 512 MiB" in left_out.reason


def test_inflation_is_counted_to_the_byte() -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = deflate.compress(bytes(5000)) + deflate.flush()
    assert inflates_within(BytesIO(content).read, 5000)
    assert not inflates_within(BytesIO(content).read, 4999)


def test_sequences_nested_without_end_are_left_out_with_a_reason(tmp_path: Path) -> None:
    good = ct_slice(number=2)
    good.save_as(tmp_path / "good.dcm", enforce_file_format=True)
    path = saved(ct_slice(), tmp_path)
    content = path.read_bytes()
    opening = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    (meta,) = struct.unpack_from("<L", content, 140)
    path.write_bytes(content[: 144 + meta] + opening * 20000)
    (left_out,) = read_case(tmp_path).left_out
    assert "damaged" in left_out.reason
