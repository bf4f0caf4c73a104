"""Deflated data sets that inflate a thousandfold."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from pydicom.dataset import Dataset

MIB = 1024**2


def deflated_bomb(ds: Dataset, size_bytes: int) -> bytes:
    """Return a data set, deflated, followed by `size_bytes` of zeros; without file meta information."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    (meta,) = struct.unpack_from("<L", content, 140)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = deflate.compress(content[144 + meta :]) + deflate.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing refers to what came before, so that one block may be repeated.
    block = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return head + block * (size_bytes // MIB) + deflate.flush()
