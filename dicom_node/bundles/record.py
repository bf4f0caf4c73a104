"""Which bundles each revision was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.database import reading, revision_models, writing


@dataclass(frozen=True, slots=True)
class RecordedModels:
    """The bundles of the last start of a revision's job: their key, and digests by part."""

    key: str
    bundles: Mapping[str, str]


def note_models(
    database: sa.Engine, revision_id: int, fence: int, key: str, bundles: Mapping[str, str]
) -> None:
    """Record the bundles that a start of a job uses; a late, earlier start changes nothing."""
    values = {"fence": fence, "key": key, "bundles": json.dumps(dict(bundles), sort_keys=True)}
    mine = revision_models.c.revision_id == revision_id
    with writing(database) as connection:
        known = connection.execute(sa.select(revision_models.c.fence).where(mine)).scalar()
        if known is None:
            connection.execute(sa.insert(revision_models).values(revision_id=revision_id, **values))
        elif known < fence:
            connection.execute(sa.update(revision_models).where(mine).values(**values))


def recorded_models(database: sa.Engine, revision_id: int) -> RecordedModels | None:
    """Return the bundles of a revision, or None where its job never began."""
    with reading(database) as connection:
        row = connection.execute(
            sa.select(revision_models).where(revision_models.c.revision_id == revision_id)
        ).first()
    return None if row is None else RecordedModels(row.key, json.loads(row.bundles))


def recorded_key(connection: sa.Connection, revision_id: int) -> str | None:
    """Return the key of a revision's bundles, or None where its job never began."""
    query = sa.select(revision_models.c.key).where(revision_models.c.revision_id == revision_id)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)
