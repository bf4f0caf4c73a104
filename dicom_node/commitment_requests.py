"""The node's own requests for storage commitment, as rows: what was asked, and what was answered.

A request is a row before it is made, so that its answer is known after a kill. An answer is a row
however it came, on the association of the request or to the listener.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.clock import Clock
from dicom_node.database import commitment, commitment_result, reading, writing
from dicom_node.network.commitment import Answer, result_values
from reporting.uids import uid_of


@dataclass(frozen=True, slots=True)
class Requested:
    """One request that was not answered."""

    transaction_uid: str
    sop_instance_uids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was not applied yet, with only what was asked for in it."""

    id: int
    transaction_uid: str
    committed: frozenset[str]
    failed: dict[str, int]


@dataclass(frozen=True)
class CommitmentRequests:
    """Requests to one peer."""

    database: sa.Engine
    clock: Clock
    peer_name: str

    def open(self, calling_ae_title: str, uids: Sequence[str]) -> str:
        """Note a request that is going to be made; returns its Transaction UID."""
        now = self.clock()
        with writing(self.database) as connection:
            count = connection.execute(sa.select(sa.func.count()).select_from(commitment)).scalar_one()
            text = "\0".join((calling_ae_title, self.peer_name, repr(now), *uids))
            transaction_uid = str(uid_of("commitment", count, text))
            connection.execute(
                sa.insert(commitment).values(
                    transaction_uid=transaction_uid,
                    peer=self.peer_name,
                    requested_at=now,
                    sop_instance_uids=json.dumps(uids),
                )
            )
        return transaction_uid

    def close(self, transaction_uid: str) -> None:
        """Note that a request is not waited for any more; an answer to it still counts."""
        with writing(self.database) as connection:
            connection.execute(
                sa.update(commitment)
                .where(commitment.c.transaction_uid == transaction_uid)
                .values(answered=True)
            )

    def pending(self, requested_before: float | None = None) -> list[Requested]:
        """Return the requests that wait for an answer, of those made up to a time if one is given."""
        query = sa.select(commitment.c.transaction_uid, commitment.c.sop_instance_uids).where(
            commitment.c.peer == self.peer_name, commitment.c.answered.is_(False)
        )
        if requested_before is not None:
            query = query.where(commitment.c.requested_at <= requested_before)
        with reading(self.database) as connection:
            return [Requested(uid, frozenset(json.loads(text))) for uid, text in connection.execute(query)]

    def is_answered(self, transaction_uid: str) -> bool:
        """Return whether the answer to a request has come."""
        query = sa.select(commitment_result.c.id).where(
            commitment_result.c.transaction_uid == transaction_uid
        )
        with reading(self.database) as connection:
            return connection.execute(query).first() is not None

    def keep(self, answer: Answer) -> None:
        """Note an answer that came on the association of its request."""
        with writing(self.database) as connection:
            connection.execute(sa.insert(commitment_result).values(**result_values(answer, self.clock())))

    def answers(self) -> list[Answered]:
        """Return the answers that were not applied, oldest first."""
        query = (
            sa.select(commitment_result, commitment.c.sop_instance_uids)
            .join(commitment, commitment.c.transaction_uid == commitment_result.c.transaction_uid)
            .where(commitment.c.peer == self.peer_name, commitment_result.c.applied.is_(False))
            .order_by(commitment_result.c.id)
        )
        found = []
        with reading(self.database) as connection:
            for row in connection.execute(query):
                asked = frozenset(json.loads(row.sop_instance_uids))
                failed = {uid: why for uid, why in json.loads(row.failed).items() if uid in asked}
                committed = asked & frozenset(json.loads(row.committed)) - failed.keys()
                found.append(Answered(row.id, row.transaction_uid, committed, failed))
        return found

    def applied(self, answer: Answered) -> None:
        """Note that an answer was applied, and its request is closed."""
        self.close(answer.transaction_uid)
        with writing(self.database) as connection:
            connection.execute(
                sa.update(commitment_result).where(commitment_result.c.id == answer.id).values(applied=True)
            )
