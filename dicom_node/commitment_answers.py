"""Answers to a peer's requests for storage commitment (PS3.4 annex J, the node as SCP)."""

from __future__ import annotations

import json
import logging
from typing import Any

import sqlalchemy as sa

from dicom_node.clock import Clock
from dicom_node.database import inbound_commitment, instance, reading, writing
from dicom_node.errors import NodeError
from dicom_node.network.commitment import report_commitment
from dicom_node.settings import NodeSettings, PeerSettings
from dicom_node.storage.store import Store

_log = logging.getLogger(__name__)

MAXIMUM_TRIES = 50
"""Of one answer; with the longest wait of 15 minutes that is half a day."""


def answer_requests(
    peer: PeerSettings, settings: NodeSettings, database: sa.Engine, clock: Clock, store: Store
) -> bool:
    """Answer the requests of one peer that are due; returns whether there were any."""
    due = sa.select(inbound_commitment).where(
        inbound_commitment.c.calling_ae_title == peer.ae_title,
        inbound_commitment.c.answered.is_(False),
        inbound_commitment.c.next_attempt_at <= clock(),
    )
    with reading(database) as connection:
        requests = connection.execute(due).all()
    for request in requests:
        values = _answer(request, peer, settings, database, clock, store)
        with writing(database) as connection:
            connection.execute(
                sa.update(inbound_commitment)
                .where(inbound_commitment.c.transaction_uid == request.transaction_uid)
                .values(**values)
            )
    return bool(requests)


def _answer(
    request: sa.Row[Any],
    peer: PeerSettings,
    settings: NodeSettings,
    database: sa.Engine,
    clock: Clock,
    store: Store,
) -> dict[str, object]:
    """Report what is kept and what is not; returns what to note of the request."""
    references = [(str(c), str(i)) for c, i in json.loads(request.references_json)]
    kept = [r for r in references if is_kept(*r, database, store)]
    lost = [r for r in references if r not in kept]
    try:
        report_commitment(peer, settings.listener.ae_title, request.transaction_uid, kept, lost)
    except NodeError as error:
        tries = request.attempts + 1
        waits = settings.outbox.backoff_s
        _log.warning("answer %d to a commitment request was not taken: %s", tries, error)
        return {
            "attempts": tries,
            "next_attempt_at": clock() + waits[min(tries, len(waits)) - 1],
            "answered": tries >= MAXIMUM_TRIES,
        }
    return {"answered": True}


def is_kept(sop_class_uid: str, sop_instance_uid: str, database: sa.Engine, store: Store) -> bool:
    """Return whether an instance is in the index and all of it is in the store."""
    query = sa.select(instance.c.path, instance.c.size_bytes).where(
        instance.c.sop_instance_uid == sop_instance_uid, instance.c.sop_class_uid == sop_class_uid
    )
    with reading(database) as connection:
        rows = connection.execute(query).all()
    return any((store.size(row.path) or -1) >= row.size_bytes for row in rows)
