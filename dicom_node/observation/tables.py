"""Tables of observation: signs of life, counters, and what was told to people.

They are beside those of `dicom_node.database`, in the same database, so that the processes of several
machines are seen from one place.

    heartbeat   one row for each process that runs; a process that ends in order removes its own
    counter     totals of each listener's machine, raised by what was added since the last time
    alert       conditions that hold or held, and when people were told
"""

from __future__ import annotations

from sqlalchemy import Column, Engine, Float, String, Table, Text

from dicom_node.database import metadata, writing

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("owner", String(160), primary_key=True, doc="role@host:process"),
    Column("role", String(16), nullable=False),
    Column("host", String(128), nullable=False),
    Column("started_at", Float, nullable=False),
    Column("beat_at", Float, nullable=False),
)

counter = Table(
    "counter",
    metadata,
    Column("host", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("label", String(64), primary_key=True, doc="of a fixed list; empty where there is one only"),
    Column("value", Float, nullable=False),
)

alert = Table(
    "alert",
    metadata,
    Column("condition", String(32), primary_key=True),
    Column("subject", String(160), primary_key=True),
    Column("since", Float, nullable=False),
    Column("text", Text, nullable=False),
    Column("told_at", Float, doc="NULL: not yet"),
    Column("cleared_at", Float, doc="NULL: it holds"),
    Column("clearance_told_at", Float, doc="NULL: not yet"),
)

OBSERVATION_TABLES = (heartbeat, counter, alert)


def prepare_observation(database: Engine) -> None:
    """Create the tables of observation where they are absent."""
    with writing(database) as connection:
        metadata.create_all(connection, tables=list(OBSERVATION_TABLES))
