"""The review queue: studies whose outlines a person has to look at before anything is forecast.

A program's outlines that are possible but doubtful put a revision in REVIEW, with the reason, and go to
the PACS as a proposal. It leaves REVIEW when a corrected segmentation comes (a new revision takes its
place), when a person releases the outlines as they are, or when a person rejects them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dicom_node.database import reading, result_object, review, writing
from dicom_node.jobs.ledger import PROPOSAL, Ledger, ResultRow
from dicom_node.jobs.states import Revision, RevisionEvent

if TYPE_CHECKING:
    from dicom_node.jobs.ledger import RevisionRow

RELEASED, REJECTED = "released", "rejected"
REJECTED_REASON = "the outlines were rejected in review"


@dataclass(frozen=True, slots=True)
class PendingReview:
    """A revision that waits for a person; `proposals` are the states of what was sent, by peer."""

    revision: RevisionRow
    reason: str
    held_at: float
    proposals: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reviews:
    """Holds revisions for review, and records what people decide."""

    ledger: Ledger

    def pending(self) -> tuple[PendingReview, ...]:
        """Return the revisions in REVIEW, the one that waits longest first."""
        rows = {row.id: row for row in self.ledger.revisions([Revision.REVIEW])}
        query = sa.select(review).where(review.c.revision_id.in_(rows)).order_by(review.c.held_at)
        with reading(self.ledger.database) as connection:
            found = connection.execute(query).all()
        return tuple(
            PendingReview(rows[r.revision_id], r.reason, r.held_at, self.proposals(r.revision_id))
            for r in found
        )

    def proposals(self, revision_id: int) -> tuple[tuple[str, str], ...]:
        """Return the (peer, state) of each proposal of a revision."""
        query = sa.select(result_object.c.peer, result_object.c.state).where(
            result_object.c.revision_id == revision_id, result_object.c.kind == PROPOSAL
        )
        with reading(self.ledger.database) as connection:
            return tuple((peer, state) for peer, state in connection.execute(query.order_by("peer")))

    def released(self, revision_id: int, models_key: str) -> bool:
        """Whether a person released the outlines that these bundles draw of this revision."""
        query = sa.select(review.c.revision_id).where(
            review.c.revision_id == revision_id,
            review.c.models_key == models_key,
            review.c.decision == RELEASED,
        )
        with reading(self.ledger.database) as connection:
            return connection.execute(query).first() is not None

    def hold(
        self, revision_id: int, fence: int, reason: str, models_key: str, proposals: Iterable[ResultRow]
    ) -> None:
        """Put a running revision in REVIEW, and its proposals in the outbox, in one transaction.

        Raises
        ------
        LeaseLost
            Another worker has the job, or the revision was superseded.
        """
        values = {
            "models_key": models_key,
            "reason": reason,
            "held_at": self.ledger.clock(),
            "decision": "",
            "decided_at": None,
        }
        with writing(self.ledger.database) as connection:
            self.ledger.check_fence(connection, revision_id, fence)
            for row in proposals:
                self.ledger.add_object(connection, revision_id, row)
            known = connection.execute(
                sa.update(review).where(review.c.revision_id == revision_id).values(**values)
            )
            if known.rowcount == 0:
                connection.execute(sa.insert(review).values(revision_id=revision_id, **values))
            self.ledger.apply(connection, revision_id, RevisionEvent.OUTLINES_DOUBTFUL, reason)

    def release(self, revision_id: int) -> Revision:
        """Queue a revision again; its outlines are used as they are.

        Raises
        ------
        ConfigurationError
            There is no such revision.
        IllegalTransition
            It is not in REVIEW.
        """
        row = self.ledger.revision(revision_id)
        return self._decide(revision_id, RELEASED, RevisionEvent.REVIEW_RELEASED, "", rounds=row.rounds + 1)

    def reject(self, revision_id: int, reason: str = REJECTED_REASON) -> Revision:
        """Refuse a revision whose outlines are wrong.

        Raises
        ------
        ConfigurationError
            There is no such revision.
        IllegalTransition
            It is not in REVIEW.
        """
        self.ledger.revision(revision_id)
        return self._decide(revision_id, REJECTED, RevisionEvent.REVIEW_REJECTED, reason)

    def _decide(
        self, revision_id: int, decision: str, event: RevisionEvent, reason: str, **values: object
    ) -> Revision:
        with writing(self.ledger.database) as connection:
            after = self.ledger.apply(connection, revision_id, event, reason, **values)
            connection.execute(
                sa.update(review)
                .where(review.c.revision_id == revision_id)
                .values(decision=decision, decided_at=self.ledger.clock())
            )
        return after
