"""C-STORE and C-ECHO as SCU (PS3.4 annexes A and B): Part 10 files go out as they are.

A session keeps one association for a batch. Pixels are never decoded; a data set is encoded anew
only for a peer that takes nothing but Implicit VR Little Endian.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode, encode

from dicom_node.errors import PeerRejected, PermanentError, ProcessingFailed, StatusUnknown, TransientError
from dicom_node.network.contexts import VERIFICATION
from dicom_node.network.requestor import Association, Context, Proposal, associate
from dicom_node.network.stores import C_STORE_RSP, StoreCommand, store_request
from dicom_node.settings import PeerSettings

_log = logging.getLogger(__name__)

C_ECHO_RQ = 0x0030
SUCCESS = 0x0000
DUPLICATE = 0x0111
WARNINGS = frozenset({0x0001, 0x0107, DUPLICATE, 0x0116})
"""Statuses of PS3.7 annex C that mean stored; 0xB000 to 0xBFFF besides."""
PROCESSING_FAILURE, RESOURCE_LIMITATION = 0x0110, 0x0213
REASONS: dict[int, str] = {
    0x0117: "invalid SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0211: "unrecognised operation",
    0xA9: "the data set does not match the SOP class",
    0xC0: "it cannot understand the data set",
}
_PREAMBLE_BYTES = 132
_GROUP_LENGTH_BYTES = 12
_HEAD_BYTES = 4096
"""Enough for any file meta information."""


@dataclass(frozen=True, slots=True)
class Part10:
    """A Part 10 file in memory; `data_set` is what follows the file meta information."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: memoryview

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole file."""
        return hashlib.sha256(self.data_set.obj).hexdigest()


def read_part10(path: Path) -> Part10:
    """Read a file without decoding its data set.

    Raises
    ------
    PermanentError
        It is gone, or no Part 10 file with the file meta information of PS3.10 section 7.1.
    """
    try:
        return part10(path.read_bytes())
    except OSError as error:
        raise PermanentError(f"a result file cannot be read ({error.strerror})") from error


def read_kind(path: Path) -> tuple[str, str]:
    """Return SOP Class UID and Transfer Syntax UID of a file; raises as `read_part10`."""
    try:
        with path.open("rb") as file:
            head = part10(file.read(_HEAD_BYTES))
    except OSError as error:
        raise PermanentError(f"a result file cannot be read ({error.strerror})") from error
    return head.sop_class_uid, head.transfer_syntax_uid


def part10(content: bytes | bytearray) -> Part10:
    """Split a Part 10 file into its identity and its encoded data set; raises as `read_part10`."""
    start = _PREAMBLE_BYTES + _GROUP_LENGTH_BYTES
    if content[128:132] != b"DICM" or content[132:138] != b"\x02\x00\x00\x00UL":
        raise PermanentError("a file is no DICOM Part 10 file")
    (length,) = struct.unpack_from("<L", content, start - 4)
    meta = decode(BytesIO(content[start : start + length]), False, True)
    try:
        return Part10(
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
            data_set=memoryview(content)[start + length :],
        )
    except AttributeError as error:
        raise PermanentError("a file's meta information lacks a UID") from error


def judge(status: int, peer_name: str) -> None:
    """Return if a C-STORE status means stored (PS3.4 table B.2-1, PS3.7 annex C), raise if not.

    Raises
    ------
    TransientError
        Out of resources; the same object may be sent later.
    ProcessingFailed
        The peer failed on this object; worth a few tries.
    PeerRejected
        Sending it again changes nothing.
    """
    if status == SUCCESS or status in WARNINGS or status >> 12 == 0xB:
        if status:
            _log.info("%s stored an object with the warning 0x%04X", peer_name, status)
        return
    told = f"status 0x{status:04X}"
    if status >> 8 == 0xA7 or status == RESOURCE_LIMITATION:
        raise TransientError(f"{peer_name} is out of resources ({told})")
    if status == PROCESSING_FAILURE:
        raise ProcessingFailed(f"{peer_name} failed to process an object ({told})")
    reason = REASONS.get(status) or REASONS.get(status >> 8) or "it refuses the object"
    raise PeerRejected(f"{peer_name}: {reason} ({told})")


@dataclass
class StoreSession:
    """C-STOREs over one association."""

    association: Association

    def store(self, file: Part10) -> int:
        """Send one object; returns the status, success or a warning.

        Raises
        ------
        StatusUnknown
            The answer did not come: the peer may have it. Send the same again.
        TransientError, PeerRejected
            As `judge` says; `PeerRejected` also where no presentation context fits.
        """
        context, data_set = self._encoded(file)
        request = StoreCommand(self.association.next_message_id(), file.sop_class_uid, file.sop_instance_uid)
        self.association.send_encoded(context, store_request(request), data_set)
        answer = self.association.receive().command
        if (
            answer.get("CommandField") != C_STORE_RSP
            or answer.get("MessageIDBeingRespondedTo") != request.message_id
            or answer.get("Status") is None
        ):
            self.association.abort()
            raise StatusUnknown(f"{self.association.peer.name} answered something else than C-STORE")
        status = int(answer.Status)
        judge(status, self.association.peer.name)
        return status

    def _encoded(self, file: Part10) -> tuple[Context, memoryview]:
        context = self.association.find(file.sop_class_uid, file.transfer_syntax_uid)
        if context is not None:
            return context, file.data_set
        context = self.association.find(file.sop_class_uid, ImplicitVRLittleEndian)
        if context is not None and file.transfer_syntax_uid == ExplicitVRLittleEndian:
            return context, _implicit(file)
        name, syntax = UID(file.sop_class_uid).name, UID(file.transfer_syntax_uid).name
        raise PeerRejected(f"{self.association.peer.name} does not accept {name} in {syntax}")


def _implicit(file: Part10) -> memoryview:
    """Return the data set in the one transfer syntax that every SCP takes (PS3.5 section 10.1)."""
    data_set = decode(BytesIO(file.data_set), False, True)
    encoded = encode(data_set, True, True)
    if encoded is None:
        raise PermanentError("a data set cannot be encoded in Implicit VR Little Endian")
    return memoryview(encoded)


@contextmanager
def store_session(
    peer: PeerSettings, our_ae_title: str, kinds: Iterable[tuple[str, str]]
) -> Iterator[StoreSession]:
    """Open an association for a batch of C-STOREs.

    Parameters
    ----------
    kinds : iterable of (SOP Class UID, Transfer Syntax UID)
        What the batch holds. Each pair gets a presentation context of its own, so that the peer
        cannot choose between syntaxes.

    Raises
    ------
    TransientError, PeerRejected
        As `dicom_node.network.requestor.associate` does.
    """
    wanted = sorted(set(kinds))
    proposals = [Proposal(sop_class, (syntax,)) for sop_class, syntax in wanted]
    proposals += [
        Proposal(sop_class, (ImplicitVRLittleEndian,))
        for sop_class, syntax in wanted
        if syntax == ExplicitVRLittleEndian and (sop_class, ImplicitVRLittleEndian) not in wanted
    ]
    with associate(peer, our_ae_title, proposals) as association:
        yield StoreSession(association)


def echo(peer: PeerSettings, our_ae_title: str) -> None:
    """Do a C-ECHO (PS3.7 section 9.1.5).

    Raises
    ------
    TransientError, PeerRejected
        The peer does not answer, or refuses.
    """
    with associate(peer, our_ae_title, [Proposal(VERIFICATION, (ImplicitVRLittleEndian,))]) as association:
        request = Dataset()
        request.AffectedSOPClassUID = VERIFICATION
        request.CommandField = C_ECHO_RQ
        request.MessageID = association.next_message_id()
        association.send(association.need(VERIFICATION), request)
        status = int(association.receive().command.get("Status", PROCESSING_FAILURE))
        if status != SUCCESS:
            raise PeerRejected(f"{peer.name} answered C-ECHO with status 0x{status:04X}")
