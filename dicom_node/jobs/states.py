"""States of a study revision and of a result object, and the events that lead between them.

Every state change in the node goes through `revision_transition` or `object_transition`; what the
tables do not have cannot happen.
"""

from __future__ import annotations

from enum import StrEnum

from dicom_node.errors import IllegalTransition


class Revision(StrEnum):
    """States of one revision of a study."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    IGNORED = "IGNORED"
    HELD = "HELD"
    REVIEW = "REVIEW"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    REFUSED = "REFUSED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    DONE = "DONE"
    DELIVERING = "DELIVERING"
    DELIVERED = "DELIVERED"
    SUPERSEDED = "SUPERSEDED"


class RevisionEvent(StrEnum):
    """What happens to a revision."""

    STUDY_COMPLETE = "study complete"
    CONFLICT_FOUND = "conflict found"
    STUDY_INCOMPLETE = "study stays incomplete"
    RULE_FORECASTS = "rule forecasts"
    RULE_IGNORES = "rule ignores"
    RULE_HOLDS = "rule holds"
    JOB_STARTED = "job started"
    JOB_RELEASED = "job released"
    INPUT_REFUSED = "input refused"
    INPUT_DAMAGED = "input damaged on this node's disk"
    OUTLINES_DOUBTFUL = "outlines doubtful"
    REVIEW_RELEASED = "released in review"
    REVIEW_REJECTED = "rejected in review"
    JOB_FAILED = "job failed"
    JOB_DONE = "job done"
    CANCEL = "cancelled by a person"
    RETRY = "retried by a person"
    DELIVERY_STARTED = "delivery started"
    DELIVERY_REJECTED = "delivery rejected"
    DELIVERY_RETRIED = "delivery retried by a person"
    ALL_VERIFIED = "all objects verified"
    INPUT_CHANGED = "input changed"


_R, _E = Revision, RevisionEvent

REVISION_TRANSITIONS: dict[tuple[Revision, RevisionEvent], Revision] = {
    (_R.RECEIVING, _E.STUDY_COMPLETE): _R.COMPLETE,
    (_R.RECEIVING, _E.CONFLICT_FOUND): _R.HELD,
    (_R.RECEIVING, _E.STUDY_INCOMPLETE): _R.HELD,
    (_R.RECEIVING, _E.RULE_IGNORES): _R.IGNORED,
    (_R.COMPLETE, _E.CONFLICT_FOUND): _R.HELD,
    (_R.COMPLETE, _E.RULE_FORECASTS): _R.QUEUED,
    (_R.COMPLETE, _E.RULE_IGNORES): _R.IGNORED,
    (_R.COMPLETE, _E.RULE_HOLDS): _R.HELD,
    (_R.COMPLETE, _E.INPUT_DAMAGED): _R.HELD,
    (_R.HELD, _E.RETRY): _R.COMPLETE,
    (_R.IGNORED, _E.RETRY): _R.COMPLETE,
    (_R.QUEUED, _E.JOB_STARTED): _R.RUNNING,
    (_R.RUNNING, _E.JOB_STARTED): _R.RUNNING,
    (_R.RUNNING, _E.JOB_RELEASED): _R.QUEUED,
    (_R.RUNNING, _E.INPUT_REFUSED): _R.REFUSED,
    (_R.RUNNING, _E.INPUT_DAMAGED): _R.HELD,
    (_R.RUNNING, _E.OUTLINES_DOUBTFUL): _R.REVIEW,
    (_R.REVIEW, _E.REVIEW_RELEASED): _R.QUEUED,
    (_R.REVIEW, _E.REVIEW_REJECTED): _R.REFUSED,
    (_R.REVIEW, _E.CANCEL): _R.CANCELLED,
    (_R.QUEUED, _E.JOB_FAILED): _R.FAILED,
    (_R.RUNNING, _E.JOB_FAILED): _R.FAILED,
    (_R.RUNNING, _E.JOB_DONE): _R.DONE,
    (_R.QUEUED, _E.CANCEL): _R.CANCELLED,
    (_R.RUNNING, _E.CANCEL): _R.CANCELLED,
    (_R.HELD, _E.CANCEL): _R.CANCELLED,
    (_R.REFUSED, _E.RETRY): _R.COMPLETE,
    (_R.FAILED, _E.RETRY): _R.COMPLETE,
    (_R.CANCELLED, _E.RETRY): _R.COMPLETE,
    (_R.DONE, _E.DELIVERY_STARTED): _R.DELIVERING,
    (_R.DELIVERING, _E.DELIVERY_REJECTED): _R.FAILED,
    (_R.FAILED, _E.DELIVERY_RETRIED): _R.DELIVERING,
    (_R.DELIVERING, _E.ALL_VERIFIED): _R.DELIVERED,
    **{
        (state, _E.INPUT_CHANGED): _R.SUPERSEDED
        for state in _R
        if state is not _R.SUPERSEDED and state is not _R.RECEIVING
    },
}


class ResultObject(StrEnum):
    """States of one result object on its way to one peer."""

    READY = "READY"
    SENT = "SENT"
    COMMITTED = "COMMITTED"
    VERIFIED = "VERIFIED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


class ObjectEvent(StrEnum):
    """What happens to a result object."""

    STORED_BY_PEER = "stored by peer"
    COMMITTED_BY_PEER = "committed by peer"
    READ_BACK_EQUAL = "read back equal"
    NOT_COMMITTED = "not committed by peer"
    READ_BACK_ABSENT = "absent at read-back"
    REJECTED_BY_PEER = "rejected by peer for good"
    REVISION_SUPERSEDED = "revision superseded"
    RETRY = "retried by a person"


_O, _V = ResultObject, ObjectEvent

OBJECT_TRANSITIONS: dict[tuple[ResultObject, ObjectEvent], ResultObject] = {
    (_O.READY, _V.STORED_BY_PEER): _O.SENT,
    (_O.READY, _V.REJECTED_BY_PEER): _O.REJECTED,
    (_O.READY, _V.REVISION_SUPERSEDED): _O.WITHDRAWN,
    (_O.SENT, _V.COMMITTED_BY_PEER): _O.COMMITTED,
    (_O.SENT, _V.NOT_COMMITTED): _O.READY,
    (_O.SENT, _V.REJECTED_BY_PEER): _O.REJECTED,
    (_O.COMMITTED, _V.READ_BACK_EQUAL): _O.VERIFIED,
    (_O.COMMITTED, _V.READ_BACK_ABSENT): _O.READY,
    (_O.COMMITTED, _V.REJECTED_BY_PEER): _O.REJECTED,
    (_O.REJECTED, _V.RETRY): _O.READY,
    (_O.WITHDRAWN, _V.RETRY): _O.READY,
}


def revision_transition(state: Revision, event: RevisionEvent) -> Revision:
    """Return the state after `event`; raise `IllegalTransition` if the table has none."""
    try:
        return REVISION_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a study revision that is {state} cannot be {event!s}") from None


def object_transition(state: ResultObject, event: ObjectEvent) -> ResultObject:
    """Return the state after `event`; raise `IllegalTransition` if the table has none."""
    try:
        return OBJECT_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(f"a result object that is {state} cannot be {event!s}") from None
