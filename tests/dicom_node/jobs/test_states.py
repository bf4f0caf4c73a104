from __future__ import annotations

import pytest

from dicom_node.errors import IllegalTransition
from dicom_node.jobs.states import (
    OBJECT_TRANSITIONS,
    REVISION_TRANSITIONS,
    ObjectEvent,
    ResultObject,
    Revision,
    RevisionEvent,
    object_transition,
    revision_transition,
)


def _reachable(transitions, start):
    found, new = {start}, {start}
    while new:
        new = {after for (before, _), after in transitions.items() if before in new} - found
        found |= new
    return found


def test_every_state_can_be_reached() -> None:
    assert _reachable(REVISION_TRANSITIONS, Revision.RECEIVING) == set(Revision)
    assert _reachable(OBJECT_TRANSITIONS, ResultObject.READY) == set(ResultObject)


def test_every_event_is_used() -> None:
    assert {e for _, e in REVISION_TRANSITIONS} == set(RevisionEvent)
    assert {e for _, e in OBJECT_TRANSITIONS} == set(ObjectEvent)


def test_only_the_final_states_have_no_way_out() -> None:
    assert {s for s in Revision if not any(b is s for b, _ in REVISION_TRANSITIONS)} == {Revision.SUPERSEDED}
    assert {s for s in ResultObject if not any(b is s for b, _ in OBJECT_TRANSITIONS)} == {
        ResultObject.VERIFIED
    }


def test_changed_input_supersedes_whatever_was_made_of_it() -> None:
    for state in set(Revision) - {Revision.RECEIVING, Revision.SUPERSEDED}:
        assert revision_transition(state, RevisionEvent.INPUT_CHANGED) is Revision.SUPERSEDED


def test_what_the_tables_do_not_have_cannot_happen() -> None:
    with pytest.raises(IllegalTransition, match="DELIVERED"):
        revision_transition(Revision.DELIVERED, RevisionEvent.JOB_STARTED)
    with pytest.raises(IllegalTransition, match="READY"):
        object_transition(ResultObject.READY, ObjectEvent.READ_BACK_EQUAL)
