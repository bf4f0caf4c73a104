"""The one table of states: nothing is stranded, nothing that has ended moves but by a person."""

from __future__ import annotations

import pytest

from dicom_node.batch.states import (
    BATCH_TRANSITIONS,
    ENDED,
    IN_FLIGHT,
    OPEN,
    OUTCOMES,
    BatchEvent,
    BatchStudy,
    batch_transition,
)
from dicom_node.errors import IllegalTransition
from dicom_node.jobs.states import REVISION_TRANSITIONS, Revision


def test_every_state_is_reached_from_planned() -> None:
    reached = {BatchStudy.PLANNED}
    while more := {after for (before, _), after in BATCH_TRANSITIONS.items() if before in reached} - reached:
        reached |= more
    assert reached == set(BatchStudy)


def test_every_open_state_can_come_to_an_end() -> None:
    ends = set(ENDED)
    while more := {before for (before, _), after in BATCH_TRANSITIONS.items() if after in ends} - ends:
        ends |= more
    assert ends == set(BatchStudy)


def test_only_a_person_moves_what_has_ended() -> None:
    events = {event for (before, event), _ in BATCH_TRANSITIONS.items() if before in ENDED}
    assert events == {BatchEvent.RETRY}


def test_every_state_is_open_ended_or_waits_for_a_person() -> None:
    assert {*OPEN, *ENDED, BatchStudy.HELD} == set(BatchStudy)
    assert set(IN_FLIGHT) < set(OPEN)


def test_outcomes_are_states_that_a_revision_does_not_leave_by_itself() -> None:
    """A state that the node itself moves on from must not end a study of a batch."""
    by_itself = {Revision.RECEIVING, Revision.COMPLETE, Revision.QUEUED, Revision.RUNNING}
    by_itself |= {Revision.DONE, Revision.DELIVERING, Revision.SUPERSEDED}
    assert set(OUTCOMES) == set(Revision) - by_itself
    assert {before for before, _ in REVISION_TRANSITIONS} >= by_itself - {Revision.SUPERSEDED}


def test_every_outcome_is_a_transition_of_a_received_study() -> None:
    for event in OUTCOMES.values():
        assert batch_transition(BatchStudy.RECEIVED, event) in {*ENDED, BatchStudy.HELD}


def test_what_the_table_does_not_have_cannot_happen() -> None:
    with pytest.raises(IllegalTransition, match="DONE cannot be retrieval started"):
        batch_transition(BatchStudy.DONE, BatchEvent.RETRIEVAL_STARTED)
