"""Writing DICOM files fast: what the images of a series share is encoded once.

A virtual series has a hundred headers of sixty elements of which a handful differ. The bytes are the
ones that `pydicom.dcmwrite` writes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

from pydicom import dcmwrite
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

BULK_VRS = frozenset({"OB", "OW", "OF", "OD", "UN"})
PREAMBLE = b"\x00" * 128 + b"DICM"


class FileEncoder:
    """Encodes data sets, and remembers the bytes of elements that it saw before.

    An element is known by identity, so elements must not be changed after they were encoded.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[DataElement, bytes]] = {}

    def encode(self, dataset: Dataset) -> bytes:
        """Return a data set with its file meta information as the bytes of a DICOM file."""
        elements = self._elements(dataset)
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax != ExplicitVRLittleEndian or any(" or " in e.VR for e in elements.values()):
            return _encode_plainly(dataset)
        encodings = convert_encodings(dataset.SpecificCharacterSet)
        parts = [PREAMBLE, _file_meta(dataset)]
        parts += [self._element(elements[tag], encodings) for tag in sorted(elements)]
        return b"".join(parts)

    def _elements(self, dataset: Dataset) -> Mapping[int, DataElement]:
        return {int(tag): dataset[tag] for tag in dataset.keys()}

    def _element(self, element: DataElement, encodings: list[str]) -> bytes:
        if element.VR in BULK_VRS:
            return _encoded(element, encodings)
        known = self._known.get(id(element))
        if known is None:
            known = self._known[id(element)] = element, _encoded(element, encodings)
        return known[1]


def _encoded(element: DataElement, encodings: list[str]) -> bytes:
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
