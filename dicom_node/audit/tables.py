"""Tables of the audit trail, in the node's database.

The ledger's own table ``audit`` holds every state change. Here is what else has to be known:

    audit_event     what is no state change: logins, refusals, starts, decisions, forecasts, removals
    audit_position  how far the file of messages has come, for each of the two tables
    forecast_lock   digests of each forecast, set in the transaction that accepts it
    decision        what a clinician decided on a forecast, and why
    removal         what retention removed
    expired_file    files that are put aside, and removed a minute later
"""

from __future__ import annotations

from sqlalchemy import Column, Engine, Float, Index, Integer, String, Table, Text

from dicom_node.database import Number, metadata, writing

audit_event = Table(
    "audit_event",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("failed", String(256), nullable=False, default="", doc="why, without patient data; empty: done"),
    Column("user", String(64), nullable=False, default=""),
    Column("address", String(64), nullable=False, default="", doc="of the other side"),
    Column("study_instance_uid", String(64), nullable=False, default=""),
    Column("detail", Text, nullable=False, default="{}", doc="JSON object"),
    Index("audit_event_by_study", "study_instance_uid"),
)

audit_position = Table(
    "audit_position",
    metadata,
    Column("source", String(16), primary_key=True, doc="ledger or event; file or syslog"),
    Column("row_id", Number, nullable=False, doc="the last row that is in the file; of syslog: record sent"),
    Column("digest", String(64), nullable=False, default="", doc="of the last record of the file"),
)

forecast_lock = Table(
    "forecast_lock",
    metadata,
    Column("revision_id", Number, primary_key=True),
    Column("fence", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(64), nullable=False, doc="over result.json and all objects"),
    Column("result_sha256", String(64), nullable=False, doc="of result.json"),
    Column("objects", Text, nullable=False, doc="JSON object: SOP Instance UID to sha256"),
    Column("summary", Text, nullable=False, doc="JSON list: survival of each regimen"),
    Column("recommended", String(64), nullable=False, default="", doc="regimen; empty: none"),
    Index("forecast_by_study", "study_instance_uid"),
)

decision = Table(
    "decision",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Float, nullable=False),
    Column("revision_id", Number, nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("forecast_digest", String(64), nullable=False),
    Column("user", String(64), nullable=False),
    Column("verdict", String(16), nullable=False, doc="agree or override"),
    Column("regimen", String(64), nullable=False, doc="what was chosen"),
    Column("recommended", String(64), nullable=False, default="", doc="what the forecast said; empty: none"),
    Column("reason", Text, nullable=False),
    Index("decision_by_revision", "revision_id"),
)

removal = Table(
    "removal",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Float, nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("what", String(16), nullable=False, doc="inputs or results"),
    Column("revision_id", Number, doc="of results"),
    Column("files", Integer, nullable=False),
    Column("bytes", Number, nullable=False),
    Column("how", String(16), nullable=False),
    Index("removal_by_study", "study_instance_uid"),
)

expired_file = Table(
    "expired_file",
    metadata,
    Column("id", Number, primary_key=True),
    Column("key", Text, nullable=False, doc="where the file was"),
    Column("aside", Text, nullable=False, doc="where it waits for its end"),
    Column("at", Float, nullable=False, doc="when it was put aside"),
)

AUDIT_TABLES = (audit_event, audit_position, forecast_lock, decision, removal, expired_file)


def prepare_audit(database: Engine) -> None:
    """Create the tables of the audit trail where they are absent."""
    with writing(database) as connection:
        metadata.create_all(connection, tables=list(AUDIT_TABLES))
