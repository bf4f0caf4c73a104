"""States of a study in a batch, and the events that lead between them.

    PLANNED -> RETRIEVING -> RECEIVED -> DONE
                                      -> REFUSED, FAILED, SKIPPED, each with its reason
                                      -> HELD until a person has decided, then RECEIVED again

From RECEIVED on a study follows its newest revision (`dicom_node.jobs.states`); `OUTCOMES` says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from dicom_node.errors import IllegalTransition
from dicom_node.jobs.states import Revision


class BatchStudy(StrEnum):
    """States of one study in one batch."""

    PLANNED = "PLANNED"
    RETRIEVING = "RETRIEVING"
    RECEIVED = "RECEIVED"
    HELD = "HELD"
    DONE = "DONE"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class BatchEvent(StrEnum):
    """What happens to a study in a batch."""

    RETRIEVAL_STARTED = "retrieval started"
    RETRIEVAL_BROKEN_OFF = "retrieval broken off"
    RETRIEVAL_POSTPONED = "retrieval postponed"
    RETRIEVAL_FAILED = "retrieval failed"
    RETRIEVAL_POINTLESS = "nothing to retrieve"
    ALL_RECEIVED = "all received"
    PERSON_NEEDED = "a person has to look"
    PERSON_DECIDED = "a person has decided"
    RESULTS_DELIVERED = "results delivered"
    INPUT_REFUSED = "input refused"
    PROCESSING_FAILED = "processing failed"
    NOT_PROCESSED = "not processed"
    RETRY = "retried by a person"


_S, _E = BatchStudy, BatchEvent

BATCH_TRANSITIONS: Mapping[tuple[BatchStudy, BatchEvent], BatchStudy] = {
    (_S.PLANNED, _E.RETRIEVAL_STARTED): _S.RETRIEVING,
    (_S.RETRIEVING, _E.RETRIEVAL_BROKEN_OFF): _S.PLANNED,
    (_S.RETRIEVING, _E.RETRIEVAL_POSTPONED): _S.PLANNED,
    (_S.RETRIEVING, _E.RETRIEVAL_FAILED): _S.FAILED,
    (_S.RETRIEVING, _E.RETRIEVAL_POINTLESS): _S.SKIPPED,
    (_S.RETRIEVING, _E.ALL_RECEIVED): _S.RECEIVED,
    (_S.RECEIVED, _E.PERSON_NEEDED): _S.HELD,
    (_S.HELD, _E.PERSON_DECIDED): _S.RECEIVED,
    (_S.RECEIVED, _E.RESULTS_DELIVERED): _S.DONE,
    (_S.RECEIVED, _E.INPUT_REFUSED): _S.REFUSED,
    (_S.RECEIVED, _E.PROCESSING_FAILED): _S.FAILED,
    (_S.RECEIVED, _E.NOT_PROCESSED): _S.SKIPPED,
    (_S.FAILED, _E.RETRY): _S.PLANNED,
}

OPEN = (BatchStudy.PLANNED, BatchStudy.RETRIEVING, BatchStudy.RECEIVED)
"""States in which a run still has something to do; HELD waits for a person, not for the run."""
IN_FLIGHT = (BatchStudy.RETRIEVING, BatchStudy.RECEIVED)
ENDED = (BatchStudy.DONE, BatchStudy.REFUSED, BatchStudy.FAILED, BatchStudy.SKIPPED)

OUTCOMES: Mapping[Revision, BatchEvent] = {
    Revision.DELIVERED: BatchEvent.RESULTS_DELIVERED,
    Revision.REFUSED: BatchEvent.INPUT_REFUSED,
    Revision.FAILED: BatchEvent.PROCESSING_FAILED,
    Revision.IGNORED: BatchEvent.NOT_PROCESSED,
    Revision.CANCELLED: BatchEvent.NOT_PROCESSED,
    Revision.HELD: BatchEvent.PERSON_NEEDED,
    Revision.REVIEW: BatchEvent.PERSON_NEEDED,
}
"""What the state of its newest revision means for a study that was received; others: not ended yet."""


def batch_transition(state: BatchStudy, event: BatchEvent) -> BatchStudy:
    """Return the state after `event`; raise `IllegalTransition` if the table has none."""
    try:
        return BATCH_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a batch's study that is {state} cannot be {event!s}") from None
