"""Messages of an accepted association that are no plain C-STORE: put together under caps (PS3.7)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.network.guards import (
    LONGEST_COMMAND_SET,
    Budget,
    DroppedDataSet,
    ProtocolViolation,
    RingingQueue,
)
from dicom_node.network.upper_layer import DECODER_ERRORS, INVALID_PDU
from dicom_node.settings import ListenerSettings

if TYPE_CHECKING:
    from dicom_node.network.association import GuardedAssociation


class Messages(DIMSEServiceProvider):
    """Puts messages together from fragments; drops data sets that are too large."""

    def __init__(self, association: GuardedAssociation, limits: ListenerSettings, budget: Budget) -> None:
        super().__init__(association)
        self._association = association
        self._maximum_object_bytes = limits.maximum_object_bytes
        self._budget = budget
        self._command_bytes = 0
        self._data_set_bytes = 0
        self._held_bytes = 0
        self._lock = threading.Lock()
        self.msg_queue = RingingQueue(association.wake.set)

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add the fragments of one P-DATA-TF; what breaks the protocol ends the association."""
        try:
            fragments = primitive.presentation_data_value_list
            if not fragments:
                raise ProtocolViolation("it sent a P-DATA-TF without fragments")
            fragments[:] = [(context_id, self._fragment(data)) for context_id, data in fragments]
            super().receive_primitive(primitive)
        except ProtocolViolation as violation:
            self._association.complain(str(violation))
            self.dul.event_queue.put(INVALID_PDU)
        except DECODER_ERRORS as error:
            self._association.complain(f"it sent a message that cannot be decoded ({type(error).__name__})")
            self.dul.event_queue.put(INVALID_PDU)
        if self.message is None:
            self._command_bytes = self._data_set_bytes = 0

    def take_fragment(self, context_id: int, data: bytes) -> bool:
        """Take one fragment, control header first; return whether more of its message is to come."""
        primitive = P_DATA()
        fragment: Any = [context_id, data]  # typed as a tuple there, and checked to be a list
        primitive.presentation_data_value_list = [fragment]
        self.receive_primitive(primitive)
        return self.message is not None

    def _fragment(self, data: bytes) -> bytes:
        """Count a fragment; return it, or only its control header where its data set is dropped."""
        if not data:
            raise ProtocolViolation("it sent an empty fragment")
        if data[0] & 1:
            self._command_bytes += len(data)
            if self._command_bytes > LONGEST_COMMAND_SET:
                raise ProtocolViolation("it sent a command set without end")
            return data
        size = len(data) - 1
        self._data_set_bytes += size
        return data if self._keep(size) else data[:1]

    def _keep(self, size_bytes: int) -> bool:
        message = self.message
        if message is None or isinstance(message.data_set, DroppedDataSet):
            return message is None  # without a command set the message is refused as a whole
        reason = ""
        if self._data_set_bytes > self._maximum_object_bytes:
            reason = "the data set is longer than maximum_object_bytes"
        elif not self._budget.take(size_bytes):
            reason = "too many data sets in memory, send it again later"
        if not reason:
            with self._lock:
                self._held_bytes += size_bytes
            return True
        self.give_back(self._data_set_bytes - size_bytes)
        message.data_set = DroppedDataSet(reason)
        return False

    def give_back(self, size_bytes: int | None = None) -> None:
        """Give back the memory of one data set, or all of it when the association ends."""
        with self._lock:
            size_bytes = self._held_bytes if size_bytes is None else min(size_bytes, self._held_bytes)
            self._held_bytes -= size_bytes
        self._budget.give_back(size_bytes)
