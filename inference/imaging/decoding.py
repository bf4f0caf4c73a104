"""What decoding a DICOM file raises when the file is damaged, or nobody here can read it."""

from __future__ import annotations

from pydicom.errors import InvalidDicomError

UNDECODABLE = (
    InvalidDicomError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    AttributeError,
    KeyError,
    OSError,
    EOFError,
    TypeError,
    MemoryError,
)
"""Of pydicom and of the decoders that it asks; what they raise for damaged files is no contract of theirs."""
