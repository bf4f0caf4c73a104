"""Writing DICOM files fast: what the images of a series share is encoded once.

A virtual series has a hundred headers of sixty elements of which a handful differ. The bytes are the
ones that `pydicom.dcmwrite` writes.
"""

from __future__ import annotations

import io
from typing import TypeAlias

from pydicom import dcmwrite
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

BULK_VRS = frozenset({"OB", "OW", "OF", "OD", "UN"})
PREAMBLE = b"\x00" * 128 + b"DICM"
ITEM = b"\xfe\xff\x00\xe0"
KEPT_ITEMS = 20
"""Sequences with more items than this, such as those of frames, are not remembered."""

_Known: TypeAlias = dict[int, tuple[DataElement, object, bytes]]
"""Identity of an element -> the element, its value and its bytes."""


class FileEncoder:
    """Encodes data sets, and remembers the bytes of elements that it saw before.

    An element is known by its identity and that of its value. What is inside a sequence must not be
    changed after it was encoded.
    """

    def __init__(self) -> None:
        self._known: _Known = {}

    def encode(self, dataset: Dataset) -> bytes:
        """Return a data set with its file meta information as the bytes of a DICOM file."""
        if dataset.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
            return _encode_plainly(dataset)
        encodings = convert_encodings(dataset.get("SpecificCharacterSet"))
        try:
            body = _body(dataset, encodings, self._known, {})
        except _AmbiguousVR:
            return _encode_plainly(dataset)
        return PREAMBLE + _file_meta(dataset) + body


class _AmbiguousVR(Exception):
    """A value representation depends on other attributes; pydicom resolves it."""


def _body(dataset: Dataset, encodings: list[str], known: _Known, nested: _Known) -> bytes:
    """Return the elements of a data set or item in the order of their tags.

    `known` outlives the data set; `nested` does not, so that long sequences are not kept.
    """
    tags = sorted(dataset.keys())
    return b"".join([_element(dataset[tag], encodings, known, nested) for tag in tags])


def _element(element: DataElement, encodings: list[str], known: _Known, nested: _Known) -> bytes:
    if element.VR in BULK_VRS:
        return _encoded(element, encodings)
    if element.VR == "SQ" and len(element.value) > KEPT_ITEMS:
        return _sequence(element, encodings, nested)
    found = known.get(id(element))
    if found is None or found[1] is not element.value:
        data = _sequence(element, encodings, nested) if element.VR == "SQ" else _encoded(element, encodings)
        found = known[id(element)] = element, element.value, data
    return found[2]


def _sequence(element: DataElement, encodings: list[str], nested: _Known) -> bytes:
    """Return a sequence with explicit lengths (PS3.5 table 7.5-1)."""
    items = []
    for item in element.value:
        body = _body(item, encodings, nested, nested)
        items += [ITEM, len(body).to_bytes(4, "little"), body]
    data = b"".join(items)
    tag = element.tag.group.to_bytes(2, "little") + element.tag.element.to_bytes(2, "little")
    return tag + b"SQ\x00\x00" + len(data).to_bytes(4, "little") + data


def _encoded(element: DataElement, encodings: list[str]) -> bytes:
    if " or " in element.VR:
        raise _AmbiguousVR
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, encodings)
    return buffer.getvalue()


def _file_meta(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, dataset.file_meta, enforce_standard=True)
    return buffer.getvalue()


def _encode_plainly(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
