"""A small PACS in this process, for the demonstration where Orthanc is not installed.

It stores what it is sent, answers C-FIND and C-GET of the Study Root model, and commits storage
after looking at its files. It keeps everything in one folder, and is not meant for patients.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    Verification,
)

from dicom_node.errors import TransientError

_log = logging.getLogger(__name__)

SUCCESS, PENDING, CANCELLED, CANNOT_UNDERSTAND = 0x0000, 0xFF00, 0xFE00, 0xC000
COMMITTED, SOME_FAILED = 1, 2
NO_SUCH_INSTANCE = 0x0112
INDEXED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "SeriesNumber",
    "InstanceNumber",
)


@dataclass
class SmallPacs:
    """The peer's index. Files are read-only once stored; the first copy of a UID stays."""

    folder: Path
    ae_title: str
    nodes: dict[str, tuple[str, int]]
    headers: dict[str, tuple[Path, Dataset]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, event: evt.Event) -> int:
        """Handle C-STORE (PS3.4 B)."""
        data_set = event.dataset
        data_set.file_meta = event.file_meta
        uid = str(data_set.SOPInstanceUID)
        if not UID(uid).is_valid:
            return CANNOT_UNDERSTAND
        path = self.folder / f"{uid}.dcm"
        with self.lock:
            if uid not in self.headers:
                data_set.save_as(path, enforce_file_format=True)
                header = Dataset()
                for keyword in INDEXED:
                    setattr(header, keyword, data_set.get(keyword))
                self.headers[uid] = (path, header)
        return SUCCESS

    def _matches(self, query: Dataset) -> list[tuple[Path, Dataset]]:
        keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        wanted = {k: {str(u) for u in _as_list(query.get(k))} for k in keys if query.get(k)}
        with self.lock:
            found = list(self.headers.values())
        return [f for f in found if all(str(f[1].get(k)) in uids for k, uids in wanted.items())]

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """Handle C-FIND (PS3.4 C.4.1), at all three levels."""
        query = event.identifier
        level = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}.get(
            query.get("QueryRetrieveLevel", ""), "SOPInstanceUID"
        )
        matches = self._matches(query)
        counts = Counter(str(h.get(level)) for _, h in matches)
        seen: set[str] = set()
        for _, header in matches:
            key = str(header.get(level))
            if key in seen:
                continue
            seen.add(key)
            answer = Dataset()
            answer.QueryRetrieveLevel = query.QueryRetrieveLevel
            for element in query:
                if element.keyword in INDEXED:
                    setattr(answer, element.keyword, header.get(element.keyword))
            for keyword in ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"):
                if keyword in query:
                    setattr(answer, keyword, counts[key])
            yield PENDING, answer

    def get(self, event: evt.Event) -> Iterator[Any]:
        """Handle C-GET (PS3.4 C.4.3)."""
        matches = self._matches(event.identifier)
        yield len(matches)
        for path, _ in matches:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, dcmread(path)

    def commit(self, event: evt.Event) -> tuple[int, None]:
        """Handle N-ACTION of storage commitment (PS3.4 J); the answer goes over a new association."""
        request = event.action_information
        calling = event.assoc.requestor.ae_title
        if request is None or calling not in self.nodes:
            return 0x0110, None
        threading.Thread(target=self._report, args=(request, calling), daemon=True).start()
        return SUCCESS, None

    def _report(self, request: Dataset, calling: str) -> None:
        answer = Dataset()
        answer.TransactionUID = request.TransactionUID
        good, bad = [], []
        for reference in request.ReferencedSOPSequence:
            with self.lock:
                kept = self.headers.get(str(reference.ReferencedSOPInstanceUID))
            if kept is not None and kept[0].is_file():
                good.append(reference)
            else:
                reference.FailureReason = NO_SUCH_INSTANCE
                bad.append(reference)
        answer.ReferencedSOPSequence = good
        if bad:
            answer.FailedSOPSequence = bad
        host, port = self.nodes[calling]
        ae = AE(ae_title=self.ae_title)
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate(host, port, ae_title=calling, ext_neg=[role])
        if not association.is_established:
            _log.warning("the answer to a commitment request could not be delivered")
            return
        association.send_n_event_report(
            answer,
            SOME_FAILED if bad else COMMITTED,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
        association.release()


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]


@contextmanager
def small_pacs(folder: Path, ae_title: str, nodes: dict[str, tuple[str, int]]) -> Iterator[int]:
    """Run the peer on a free port of loopback; yields the port.

    Parameters
    ----------
    nodes : dict
        AE title to (host, port) of whom commitment requests are answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pacs = SmallPacs(folder, ae_title, nodes)
    ae = AE(ae_title=ae_title)
    ae.maximum_pdu_size = 131072
    for context in AllStoragePresentationContexts:
        sop_class = UID(str(context.abstract_syntax))
        ae.add_supported_context(sop_class, AllTransferSyntaxes, scu_role=True, scp_role=True)
    for sop_class in (
        Verification,
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
    ):
        ae.add_supported_context(sop_class)
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    handlers = [
        (evt.EVT_C_STORE, pacs.store),
        (evt.EVT_C_FIND, pacs.find),
        (evt.EVT_C_GET, pacs.get),
        (evt.EVT_N_ACTION, pacs.commit),
    ]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    if server is None:
        raise TransientError("the demonstration's PACS could not be started on a free port")
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
