"""What the assembly of studies has to know of batches: what is still coming, and what goes last."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.batch.settings import BatchSettings
from dicom_node.batch.states import BatchStudy
from dicom_node.batch.tables import batch, batch_study, create_batch_tables
from dicom_node.database import instance, reading, study
from dicom_node.intake.assembly import Decision, Hold, Wait
from dicom_node.jobs.ledger import RevisionRow

ASK_AGAIN_S = 1.0
STILL_COMES_S = 60.0
"""What an archive sends for so long after a retrieval failed belongs to it."""
BROKEN_OFF = (
    "only a part of the study was retrieved by a batch; run the batch again, or retry to process what is here"
)


def last_came_and_seen(connection: sa.Connection, study_instance_uid: str) -> tuple[int, int | None]:
    """Return the number of a study's last input instance, and of the last one that assembly has noted."""
    came = sa.select(sa.func.max(instance.c.id)).where(
        instance.c.study_instance_uid == study_instance_uid, instance.c.made_here.is_(False)
    )
    seen = sa.select(study.c.last_instance_id).where(study.c.study_instance_uid == study_instance_uid)
    return connection.execute(came).scalar() or 0, connection.execute(seen).scalar()


@dataclass(frozen=True)
class BatchStudies:
    """Studies that batches retrieve, as the assembly sees them.

    Attributes
    ----------
    maximum_wait_s : float
        How long a study waits for the rest of a retrieval that broke off.
    """

    database: sa.Engine
    settings: BatchSettings
    maximum_wait_s: float

    def __post_init__(self) -> None:
        create_batch_tables(self.database)

    def coming(self, revision: RevisionRow, now: float) -> Decision | None:
        """Return what to do with a study of which a batch has more to fetch; None for all others."""
        begun = sa.or_(
            batch_study.c.state.in_((BatchStudy.RETRIEVING, BatchStudy.PLANNED)),
            sa.and_(batch_study.c.state == BatchStudy.FAILED, batch_study.c.received_at.is_(None)),
        )
        query = (
            sa.select(batch_study.c.state, batch_study.c.changed_at, batch.c.runner_until)
            .join(batch, batch.c.id == batch_study.c.batch_id)
            .where(
                batch_study.c.study_instance_uid == revision.study_instance_uid,
                batch_study.c.started_at.is_not(None),
                begun,
            )
        )
        last = sa.select(study.c.last_instance_at).where(
            study.c.study_instance_uid == revision.study_instance_uid
        )
        with reading(self.database) as connection:
            rows = connection.execute(query).all()
            last_at = connection.execute(last).scalar() or 0.0
            unseen = self._unseen(connection, revision.study_instance_uid)
        decisions = [self._coming(*row, last_at, now) for row in rows]
        if unseen or any(isinstance(d, Wait) for d in decisions):
            return Wait(now + ASK_AGAIN_S)
        return next((d for d in decisions if d is not None), None)

    def _unseen(self, connection: sa.Connection, uid: str) -> bool:
        """Whether the last objects of a study that was just received wait to be noted by the assembly."""
        received = sa.select(batch_study.c.id).where(
            batch_study.c.study_instance_uid == uid, batch_study.c.state == BatchStudy.RECEIVED
        )
        if connection.execute(received.limit(1)).first() is None:
            return False
        came, seen = last_came_and_seen(connection, uid)
        return seen is None or came > seen

    def _coming(
        self, state: str, changed_at: float, runner_until: float, last_at: float, now: float
    ) -> Decision | None:
        """Return what to do because of one batch, where the last object came at `last_at`."""
        if state == BatchStudy.RETRIEVING and runner_until > now:
            return Wait(now + ASK_AGAIN_S)
        failed = state == BatchStudy.FAILED
        until = changed_at + (STILL_COMES_S if failed else self.maximum_wait_s)
        if last_at > until:
            return None  # not by the batch, which had ended by then
        return Hold(BROKEN_OFF) if failed or now >= until else Wait(until)

    def priority(self, study_instance_uid: str, given: int) -> int:
        """Return the priority of a study's job: below all live work where a batch brought the study."""
        query = sa.select(batch_study.c.id).where(
            batch_study.c.study_instance_uid == study_instance_uid,
            batch_study.c.state == BatchStudy.RECEIVED,
        )
        with reading(self.database) as connection:
            brought = connection.execute(query.limit(1)).first() is not None
        return min(given, self.settings.priority) if brought else given
