"""What counts as read back equal, and web services that do not answer well."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from dicom_node.errors import NodeError, PeerRejected, TransientError
from dicom_node.network.dicomweb import retrieve_series
from dicom_node.read_back import first_difference
from dicom_node.settings import PeerSettings
from tests.builders.dicom_files import ct_slice
from tests.builders.orthanc import free_port


def ours() -> Dataset:
    ds = ct_slice(rows=16)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName = "Müller^Åse"
    ds.ImageComments = ""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "10200004", "SCT", "Liver"
    ds.AnatomicRegionSequence = Sequence([item])
    return ds


def as_file(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """Write and read, as a peer does that encodes in a transfer syntax of its own."""
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = BytesIO()
    dcmwrite(
        buffer, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True
    )
    buffer.seek(0)
    return dcmread(buffer)


def compressed(syntax: str) -> Dataset:
    ds = ours()
    ds.compress(syntax, generate_instance_uid=False)
    return as_file(ds, syntax)


def with_additions() -> Dataset:
    ds = ours()
    ds.RetrieveAETitle = "PACS"
    ds.AnatomicRegionSequence[0].CodingSchemeVersion = "1"
    ds.add_new(0x00091010, "LO", "of the peer")
    return as_file(ds)


def in_another_character_set() -> Dataset:
    ds = ours()
    ds.PatientName, ds.SpecificCharacterSet = str(ds.PatientName), "ISO_IR 100"
    return as_file(ds)


@pytest.mark.parametrize(
    "theirs",
    [
        as_file(ours()),
        as_file(ours(), ImplicitVRLittleEndian),
        compressed(JPEGLSLossless),
        compressed(RLELossless),
        with_additions(),
        in_another_character_set(),
    ],
    ids=["same", "implicit", "JPEG-LS", "RLE", "additions", "character set"],
)
def test_equal_in_another_form(theirs: Dataset) -> None:
    assert first_difference(as_file(ours()), theirs) is None


def test_every_changed_or_lost_element_is_found() -> None:
    for element in ours():
        lost = ours()
        del lost[element.tag]
        if element.keyword != "SpecificCharacterSet":
            assert first_difference(as_file(ours()), as_file(lost)) == element.keyword


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Mueller^Ase"),
        ("ImageComments", "added text"),
        ("ImagePositionPatient", [-100.0, -100.0, 2.5]),
        ("RescaleIntercept", 0),
        ("ImageType", ["ORIGINAL", "PRIMARY"]),
    ],
)
def test_changed_values_are_found(keyword: str, value: object) -> None:
    changed = ours()
    setattr(changed, keyword, value)
    assert first_difference(as_file(ours()), as_file(changed)) == keyword
    assert first_difference(as_file(ours()), as_file(changed, ImplicitVRLittleEndian)) == keyword


def test_one_changed_pixel_is_found_also_when_compressed() -> None:
    changed = ours()
    changed.PixelData = changed.PixelData[:-2] + b"\x01\x00"
    assert first_difference(as_file(ours()), as_file(changed)) == "PixelData"
    changed.compress(JPEGLSLossless, generate_instance_uid=False)
    assert first_difference(as_file(ours()), as_file(changed, JPEGLSLossless)) == "PixelData"


def test_a_change_inside_a_sequence_is_found() -> None:
    changed = ours()
    changed.AnatomicRegionSequence[0].CodeMeaning = "Spleen"
    assert first_difference(as_file(ours()), as_file(changed)) == "AnatomicRegionSequence"
    changed.AnatomicRegionSequence = Sequence([])
    assert first_difference(as_file(ours()), as_file(changed)) == "AnatomicRegionSequence"


# --- web services -------------------------------------------------------------------------------


@contextmanager
def web_service(
    status: int, content: bytes = b"", kind: str = "text/plain", length: int | None = None
) -> Iterator[str]:
    """Answer every GET in one way; `length` may promise more than comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        finally:
            server.shutdown()
            thread.join()


def retrieved(url: str) -> list[Dataset]:
    peer = PeerSettings(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=104,
        dicomweb_url=url,
        dimse_timeout_s=1,
        association_timeout_s=1,
    )
    return list(retrieve_series(peer, "1.2.3", "1.2.3.4"))


MULTIPART = 'multipart/related; type="application/dicom"; boundary=limit'


def test_an_unknown_series_is_empty() -> None:
    with web_service(404) as url:
        assert retrieved(url) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, PeerRejected), (403, PeerRejected), (500, TransientError), (503, TransientError)],
)
def test_refusals_are_for_now_or_for_good(status: int, error: type[NodeError]) -> None:
    with web_service(status) as url, pytest.raises(error, match=str(status)):
        retrieved(url)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"welcome", "text/html"),
        (b"--limit\r\nContent-Type: application/dicom\r\n\r\nwelcome\r\n--limit--", MULTIPART),
    ],
)
def test_something_else_than_dicom_is_for_now(content: bytes, kind: str) -> None:
    with web_service(200, content, kind) as url, pytest.raises(TransientError):
        retrieved(url)


def test_an_answer_that_breaks_off_is_for_now(tmp_path: Path) -> None:
    ct_slice(rows=16).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    part = b"--limit\r\nContent-Type: application/dicom\r\n\r\n" + (tmp_path / "a.dcm").read_bytes()
    with web_service(200, part, MULTIPART, length=len(part) + 1000) as url, pytest.raises(TransientError):
        retrieved(url)


def test_nobody_there_is_for_now() -> None:
    with pytest.raises(TransientError):
        retrieved(f"http://127.0.0.1:{free_port()}/dicom-web")


def test_a_silent_service_ends_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TransientError):
        retrieved(f"http://127.0.0.1:{mute.getsockname()[1]}/dicom-web")
