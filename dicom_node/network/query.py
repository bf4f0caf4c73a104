"""Asking a peer what it has, and fetching it: C-FIND, C-GET and C-MOVE (PS3.4 annex C, Study Root)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode, encode

from dicom_node.errors import PeerRejected, PermanentError, StatusUnknown, TransientError
from dicom_node.intake.assembly import PacsSeries
from dicom_node.intake.spool import file_meta
from dicom_node.network.contexts import STORAGE_CLASSES
from dicom_node.network.requestor import RESPONSE, Association, Context, Message, Proposal, associate
from dicom_node.network.stores import C_STORE_RQ, C_STORE_RSP
from dicom_node.settings import PeerSettings

_log = logging.getLogger(__name__)

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
GET = "1.2.840.10008.5.1.4.1.2.2.3"
RESULT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture Image Storage
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF Storage
)
"""Classes that the node sends but does not take as input; they are fetched to be read back."""

C_FIND_RQ, C_GET_RQ, C_MOVE_RQ = 0x0020, 0x0010, 0x0021
SUCCESS, WARNING_SOME_FAILED = 0x0000, 0xB000
PENDING = (0xFF00, 0xFF01)
UNABLE_TO_PROCESS = 0xC000


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object as it came: its identity, and its data set still encoded."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytearray


Take = Callable[[Fetched], None]
"""Keeps one fetched object; `TransientError` or `PermanentError` is answered to the peer as a failure."""


def _implicit(context: Context) -> bool:
    return context.transfer_syntax_uid == str(ImplicitVRLittleEndian)


def encoded(data_set: Dataset, context: Context) -> bytes:
    """Return a data set in the transfer syntax of a context."""
    content = encode(data_set, _implicit(context), True)
    if content is None:
        raise PermanentError("a data set could not be encoded")
    return bytes(content)


def query_identifier(level: str, **keys: str) -> Dataset:
    """Return the identifier of a query at a level (STUDY, SERIES or IMAGE) with these keys."""
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


@dataclass(frozen=True)
class PeerQuery:
    """Queries and retrievals at one peer.

    Attributes
    ----------
    take : callable
        Keeps what `fetch` receives by C-GET.
    """

    peer: PeerSettings
    our_ae_title: str
    take: Take = lambda _fetched: None

    # -------------------------------------------------------------- C-FIND

    def find(self, identifier: Dataset) -> list[Dataset]:
        """Return the answers of a C-FIND.

        Raises
        ------
        TransientError, PeerRejected
            The peer cannot be asked now, or will not answer.
        """
        with self.finding() as find:
            return find(identifier)

    @contextmanager
    def finding(self) -> Iterator[Callable[[Dataset], list[Dataset]]]:
        """Yield `find` over one association, for many questions in a row; not for two threads.

        Raises
        ------
        TransientError, PeerRejected
            The peer cannot be asked now, or will not answer.
        """
        with associate(self.peer, self.our_ae_title, [_both(FIND)]) as association:
            context = association.need(FIND)

            def find(identifier: Dataset) -> list[Dataset]:
                _request(association, context, C_FIND_RQ, identifier)
                return [
                    decode(_stream(m.data_set), _implicit(context), True)
                    for m in _answers(association, C_FIND_RQ)
                    if int(m.command.Status) in PENDING
                ]

            yield find

    def series(self, study_instance_uid: str) -> Mapping[str, PacsSeries]:
        """Return what the peer has of a study, by Series Instance UID.

        Raises
        ------
        TransientError
            It cannot be asked now, or says that it has nothing of a study that came from it.
        """
        keys = {
            "StudyInstanceUID": study_instance_uid,
            "SeriesInstanceUID": "",
            "Modality": "",
            "NumberOfSeriesRelatedInstances": "",
        }
        found: dict[str, PacsSeries] = {}
        for answer in self.find(query_identifier("SERIES", **keys)):
            uid = str(answer.get("SeriesInstanceUID", ""))
            count = answer.get("NumberOfSeriesRelatedInstances")
            instances = int(count) if count else len(self._instances(study_instance_uid, uid))
            found[uid] = PacsSeries(str(answer.get("Modality", "") or ""), instances)
        if not found:
            raise TransientError(
                f"{self.peer.name} has nothing of the study; is {self.our_ae_title} registered there?"
            )
        return found

    def _instances(self, study: str, series: str) -> list[str]:
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        return [str(a.SOPInstanceUID) for a in self.find(query_identifier("IMAGE", **keys))]

    # -------------------------------------------------------------- C-GET, C-MOVE

    def fetch(self, study_instance_uid: str, series_instance_uid: str, have: frozenset[str]) -> int:
        """Fetch the instances of a series that are not in `have`; returns how many are missing there.

        By C-GET; what it does not bring (a peer need not offer it, nor encode a compressed object
        anew) by C-MOVE to our own AE title, so that it comes to the listener.

        Raises
        ------
        TransientError, PeerRejected
            The peer cannot be asked, or can move nothing to us.
        """
        missing = [u for u in self._instances(study_instance_uid, series_instance_uid) if u not in have]
        if not missing:
            return 0
        keys = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series_instance_uid}
        identifier = query_identifier("IMAGE", **keys)
        identifier.SOPInstanceUID = missing
        came: set[str] = set()

        def take(fetched: Fetched) -> None:
            self.take(fetched)
            came.add(fetched.sop_instance_uid)

        try:
            self.get(identifier, take)
        except (PeerRejected, TransientError) as error:
            _log.info("%s; trying C-MOVE", error)
        # What came must not come again: encoded in another way it would be another object.
        if rest := [uid for uid in missing if uid not in came]:
            identifier.SOPInstanceUID = rest
            self.move(identifier)
        return len(missing)

    def get(self, identifier: Dataset, take: Take) -> int:
        """Do a C-GET; `take` keeps each object. Returns how many came.

        Raises
        ------
        TransientError, PeerRejected
            The peer cannot be reached, or offers no C-GET.
        """
        classes = dict.fromkeys([*(str(c) for c in STORAGE_CLASSES), *RESULT_CLASSES])
        proposals = [_both(GET)]
        proposals += [Proposal(c, (str(ExplicitVRLittleEndian),), scp_role=True) for c in classes]
        with associate(self.peer, self.our_ae_title, proposals) as association:
            context = association.need(GET)
            _request(association, context, C_GET_RQ, identifier)
            count = 0
            for message in _answers(association, C_GET_RQ, C_STORE_RQ):
                if message.command.CommandField == C_STORE_RQ:
                    count += _receive(association, message, take)
            return count

    def move(self, identifier: Dataset) -> None:
        """Do a C-MOVE to our own AE title.

        Raises
        ------
        TransientError, PeerRejected
            The peer cannot be reached, or cannot move to us.
        """
        with associate(self.peer, self.our_ae_title, [_both(MOVE)]) as association:
            context = association.need(MOVE)
            _request(association, context, C_MOVE_RQ, identifier, MoveDestination=self.our_ae_title)
            for _ in _answers(association, C_MOVE_RQ):
                continue

    def fetch_series(self, study_instance_uid: str, series_instance_uid: str, folder: Path) -> list[Path]:
        """Fetch a series into files of a folder, named by SOP Instance UID; returns their paths."""
        paths: list[Path] = []

        def write(fetched: Fetched) -> None:
            path = folder / f"{UID(fetched.sop_instance_uid)}.dcm"
            meta = file_meta(
                fetched.sop_class_uid,
                fetched.sop_instance_uid,
                fetched.transfer_syntax_uid,
                self.peer.ae_title,
            )
            path.write_bytes(meta + fetched.data_set)
            paths.append(path)

        keys = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series_instance_uid}
        self.get(query_identifier("SERIES", **keys), write)
        return paths


def _both(sop_class_uid: str) -> Proposal:
    return Proposal(sop_class_uid, (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)))


def _stream(content: bytearray) -> BytesIO:
    return BytesIO(bytes(content))


def _request(
    association: Association, context: Context, field: int, identifier: Dataset, **more: str
) -> None:
    command = Dataset()
    command.AffectedSOPClassUID = context.sop_class_uid
    command.CommandField = field
    command.MessageID = association.next_message_id()
    command.Priority = 0
    for keyword, value in more.items():
        setattr(command, keyword, value)
    association.send(context, command, encoded(identifier, context))


def _answers(association: Association, request: int, *others: int) -> Iterator[Message]:
    """Yield responses until the final one, and requests in `others` that come between them.

    Raises
    ------
    PeerRejected
        The final status is a failure (PS3.4 tables C.4-1 to C.4-3).
    """
    while True:
        message = association.receive()
        field = int(message.command.get("CommandField", 0))
        if field in others:
            yield message
            continue
        if field != request | RESPONSE:
            association.abort()
            raise StatusUnknown(f"{association.peer.name} answered something else than was asked")
        status = int(message.command.get("Status", UNABLE_TO_PROCESS))
        if status in PENDING:
            yield message
        elif status in (SUCCESS, WARNING_SOME_FAILED):
            return
        elif status >> 8 == 0xA7:
            raise TransientError(f"{association.peer.name} is out of resources (status 0x{status:04X})")
        else:
            raise PeerRejected(f"{association.peer.name} failed the request (status 0x{status:04X})")


def _receive(association: Association, message: Message, take: Take) -> int:
    """Take one C-STORE of a C-GET and answer it; returns 1 if it was kept."""
    command = message.command
    fetched = Fetched(
        sop_class_uid=str(command.AffectedSOPClassUID),
        sop_instance_uid=str(command.AffectedSOPInstanceUID),
        transfer_syntax_uid=message.context.transfer_syntax_uid,
        data_set=message.data_set,
    )
    status = SUCCESS
    try:
        take(fetched)
    except (TransientError, PermanentError) as error:
        _log.warning("a fetched object could not be kept: %s", error)
        status = UNABLE_TO_PROCESS
    answer = Dataset()
    answer.AffectedSOPClassUID = fetched.sop_class_uid
    answer.CommandField = C_STORE_RSP
    answer.MessageIDBeingRespondedTo = command.MessageID
    answer.Status = status
    answer.AffectedSOPInstanceUID = fetched.sop_instance_uid
    association.send(message.context, answer)
    return int(status == SUCCESS)
