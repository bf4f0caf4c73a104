"""A Storage SCP of CT images in this process, as a peer that results go to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from tests.builders.dicom_files import CT


@contextmanager
def storing_peer(
    answer: int | Dataset = 0x0000, syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,), **limits: Any
) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Run an SCP; yields its port and what it got, by SOP Instance UID."""
    got: dict[str, bytes] = {}

    def store(event: evt.Event) -> int | Dataset:
        got[str(event.request.AffectedSOPInstanceUID)] = event.request.DataSet.getvalue()
        return answer

    ae = AE(ae_title="PACS")
    ae.maximum_pdu_size = limits.get("maximum_pdu_size", 16382)
    ae.require_calling_aet = limits.get("calling", [])
    ae.add_supported_context(CT, list(syntaxes))
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()
