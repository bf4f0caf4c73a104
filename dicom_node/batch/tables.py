"""Tables of batches. Times are seconds since the epoch, UTC.

Who writes what:

    plan        batch, batch_study
    run         batch (runner, activity), batch_study
    pause       batch (paused)
"""

from __future__ import annotations

import sqlalchemy as sa

from dicom_node.database import Number, metadata, writing

batch = sa.Table(
    "batch",
    metadata,
    sa.Column("id", Number, primary_key=True),
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("peer", sa.String(32), nullable=False, doc="archive, a peer's name"),
    sa.Column("find_by", sa.String(16), nullable=False),
    sa.Column("retrieve_by", sa.String(16), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False, default=False),
    sa.Column("runner", sa.String(128), nullable=False, default="", doc="who runs it; empty: nobody"),
    sa.Column("runner_until", sa.Float, nullable=False, default=0.0, doc="end of the runner's lease"),
    sa.Column("activity", sa.Text, nullable=False, default="", doc="what the runner does or waits for"),
)

batch_study = sa.Table(
    "batch_study",
    metadata,
    sa.Column("id", Number, primary_key=True),
    sa.Column("batch_id", Number, sa.ForeignKey("batch.id"), nullable=False),
    sa.Column("study_instance_uid", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("forecast", sa.Text, nullable=False, default="", doc="what the rules would do, at planning"),
    sa.Column("instances", sa.Integer, nullable=False, default=0, doc="that the archive has, at planning"),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("next_attempt_at", sa.Float, nullable=False, default=0.0),
    sa.Column("fetched_instances", sa.Integer, nullable=False, default=0),
    sa.Column("fetched_bytes", Number, nullable=False, default=0),
    sa.Column("revision_id", Number, doc="that it followed to its end"),
    sa.Column("started_at", sa.Float, doc="begin of the last retrieval"),
    sa.Column("received_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.UniqueConstraint("batch_id", "study_instance_uid"),
    sa.Index("batch_study_by_state", "batch_id", "state"),
    sa.Index("batch_study_by_study", "study_instance_uid"),
)


def create_batch_tables(database: sa.Engine) -> None:
    """Create the tables of batches where they are absent."""
    with writing(database) as connection:
        batch.metadata.create_all(connection, tables=[batch, batch_study])
