"""From a study that was received to its outcome: what the node has made of it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.batch.ledger import BatchLedger, BatchStudyRow
from dicom_node.batch.reprocessing import BROKEN_OFF, last_came_and_seen
from dicom_node.batch.retrieval import Retrieved
from dicom_node.batch.states import OUTCOMES, BatchEvent, BatchStudy
from dicom_node.database import reading, repeat, revision, writing
from dicom_node.jobs.ledger import Ledger, RevisionRow
from dicom_node.jobs.states import Revision, RevisionEvent

LIVE_PRIORITY = 0
"""Routing rules give priorities from 0 on; jobs of batches have less."""


@dataclass(frozen=True)
class Follower:
    """Moves studies of a batch on as their revisions move on."""

    batches: BatchLedger
    ledger: Ledger
    runner: str

    def received(self, row: BatchStudyRow, retrieved: Retrieved) -> BatchStudyRow:
        """Note that all of a study is here.

        In the same transaction it is noted as sent again: where nothing was missing and other models are
        in force, the study is processed anew.
        """
        now = self.batches.clock()
        uid = row.study_instance_uid
        with writing(self.batches.database) as connection:
            after = self.batches.apply(
                connection,
                row,
                self.runner,
                BatchEvent.ALL_RECEIVED,
                received_at=now,
                fetched_instances=row.fetched_instances + retrieved.instances,
                fetched_bytes=row.fetched_bytes + retrieved.size_bytes,
            )
            connection.execute(sa.insert(repeat).values(study_instance_uid=uid, at=now))
            latest = self.ledger.latest(connection, uid)
            if latest is not None and latest.state is Revision.HELD and latest.reason == BROKEN_OFF:
                self.ledger.apply(connection, latest.id, RevisionEvent.RETRY)
        return after

    def follow(self, row: BatchStudyRow) -> None:
        """Move one study that was received on, if its newest revision has come to an end."""
        latest = self._settled(row.study_instance_uid)
        if latest is None:
            return
        event = OUTCOMES.get(latest.state)
        if row.state is BatchStudy.HELD:
            if event is not BatchEvent.PERSON_NEEDED:
                self.batches.change(row, self.runner, BatchEvent.PERSON_DECIDED)
        elif event is not None:
            self.batches.change(row, self.runner, event, _reason(latest), revision_id=latest.id)

    def _settled(self, uid: str) -> RevisionRow | None:
        """Return the newest revision of a study, once the assembly has seen all that came of it."""
        again = sa.select(repeat.c.id).where(repeat.c.study_instance_uid == uid).limit(1)
        with reading(self.batches.database) as connection:
            came, seen = last_came_and_seen(connection, uid)
            if seen is None or came > seen or connection.execute(again).first():
                return None
            return self.ledger.latest(connection, uid)

    def live_work_waits(self) -> bool:
        """Whether a study that no batch brought waits for a worker."""
        waiting = sa.select(revision.c.id).where(
            revision.c.state == Revision.QUEUED, revision.c.priority >= LIVE_PRIORITY
        )
        with reading(self.batches.database) as connection:
            return connection.execute(waiting.limit(1)).first() is not None


def _reason(latest: RevisionRow) -> str:
    prefixes = {
        Revision.IGNORED: "ignored",
        Revision.CANCELLED: "cancelled",
        Revision.HELD: "held",
        Revision.REVIEW: "waits for review",
    }
    prefix = prefixes.get(latest.state, "")
    return ": ".join(part for part in (prefix, latest.reason) if part)
