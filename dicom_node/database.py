"""Tables of the node's database, and how it is opened.

On one machine it is a SQLite file in WAL mode with synchronous=FULL: a committed row survives a power
cut. On several it is PostgreSQL, which says the same of its commits. All times are seconds since the
epoch, UTC. Who writes what:

    listener   instance, repeat, inbound_commitment, commitment_result
    assembly   study, revision, job, repeat
    worker     job, revision, result_object, revision_models, review
    outbox     result_object, commitment, inbound_commitment, revision
    commands   activation, review (decisions)
    all        audit
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    text,
)
from sqlalchemy.exc import OperationalError

from dicom_node.database_columns import add_missing_columns
from dicom_node.database_connections import (
    check_durable,
    first_line,
    postgresql_engine,
    sqlite_engine,
)
from dicom_node.errors import ConfigurationError
from dicom_node.jobs.engine import DEFAULT_QUEUE

if TYPE_CHECKING:
    from dicom_node.settings import NodeSettings

LOCKS, NODE_LOCK = 0x4843, 1
"""Advisory lock of PostgreSQL that stands for SQLite's write lock."""
KEY_LOCKS = 0x4844
"""Advisory locks of PostgreSQL of single keys; see `adding`."""

Number = BigInteger().with_variant(Integer(), "sqlite")
"""Row numbers and sizes. A hospital group makes two thousand million rows in a year; SQLite's integers
are long enough as they are."""

metadata = MetaData()

instance = Table(
    "instance",
    metadata,
    Column("id", Number, primary_key=True),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False, doc="of the encoded data set, without file meta"),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("modality", String(16), nullable=False, default=""),
    Column("path", Text, nullable=False, doc="relative to data_dir"),
    Column("size_bytes", Number, nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("made_here", Boolean, nullable=False, default=False, doc="equipment tag of this node"),
    Column("conflicts", Boolean, nullable=False, default=False, doc="same UID, other bytes"),
    UniqueConstraint("sop_instance_uid", "sha256"),
    Index("instance_by_study", "study_instance_uid", "received_at"),
    Index("instance_by_time", "id", "study_instance_uid"),
)

study = Table(
    "study",
    metadata,
    Column("study_instance_uid", String(64), primary_key=True),
    Column("first_instance_at", Float, nullable=False),
    Column("last_instance_at", Float, nullable=False),
    Column("last_instance_id", Number, nullable=False, doc="highest instance.id seen by assembly"),
    Column("calling_ae_title", String(16), nullable=False, doc="of the instance that came last"),
)

revision = Table(
    "revision",
    metadata,
    Column("id", Number, primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("rule", Text, nullable=False, default=""),
    Column("inputs_sha256", String(64), nullable=False, default=""),
    Column("plan", Text, nullable=False, default="{}", doc="JSON: regimens, months, outputs, send_to"),
    Column("job_time", Float, doc="set once when queued; dates and UIDs of all outputs"),
    Column("priority", Integer, nullable=False, default=50),
    Column("rounds", Integer, nullable=False, default=0, doc="how often it was queued"),
    Column("fence", Integer, nullable=False, default=0, doc="raised at each start of its job"),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    UniqueConstraint("study_instance_uid", "number"),
    Index("revision_by_state", "state"),
)

job = Table(
    "job",
    metadata,
    Column("id", Number, primary_key=True),
    Column("key", String(128), nullable=False, unique=True, doc="deduplication key"),
    Column("payload", Text, nullable=False, doc="JSON"),
    Column("priority", Integer, nullable=False, default=50),
    Column("queue", String(32), nullable=False, server_default=DEFAULT_QUEUE),
    Column("state", String(16), nullable=False, doc="ready, running, done, dead, cancelled"),
    Column("run_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("error", Text, nullable=False, default=""),
    Column("progress", Float, nullable=False, default=0.0),
    Column("progress_text", Text, nullable=False, default=""),
    Index("job_ready", "state", "priority", "run_at"),
)

result_object = Table(
    "result_object",
    metadata,
    Column("id", Number, primary_key=True),
    Column("revision_id", Number, ForeignKey("revision.id"), nullable=False),
    Column("peer", String(32), nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("study_instance_uid", String(64), nullable=False),
    Column("series_instance_uid", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("path", Text, nullable=False, doc="relative to data_dir"),
    Column("sha256", String(64), nullable=False, doc="of the whole file, as it was written"),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", Float, nullable=False, default=0.0),
    Column("detail", Text, nullable=False, default=""),
    Column("changed_at", Float, nullable=False),
    UniqueConstraint("sop_instance_uid", "peer"),
    Index("result_by_state", "state", "next_attempt_at"),
    Index("result_by_revision", "revision_id"),
)

commitment = Table(
    "commitment",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("peer", String(32), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("sop_instance_uids", Text, nullable=False, doc="JSON list"),
    Column("answered", Boolean, nullable=False, default=False),
)

commitment_result = Table(
    "commitment_result",
    metadata,
    Column("id", Number, primary_key=True),
    Column("transaction_uid", String(64), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("committed", Text, nullable=False, doc="JSON list of SOP Instance UIDs"),
    Column("failed", Text, nullable=False, doc="JSON object: SOP Instance UID to failure reason"),
    Column("applied", Boolean, nullable=False, default=False),
)

inbound_commitment = Table(
    "inbound_commitment",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("calling_ae_title", String(16), nullable=False),
    Column("requested_at", Float, nullable=False),
    Column("references_json", Text, nullable=False, doc="JSON list of [class UID, instance UID]"),
    Column("answered", Boolean, nullable=False, default=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", Float, nullable=False, default=0.0),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Float, nullable=False),
    Column("entity", String(16), nullable=False, doc="revision or object"),
    Column("key", String(128), nullable=False),
    Column("state_before", String(16), nullable=False),
    Column("state_after", String(16), nullable=False),
    Column("event", String(64), nullable=False),
    Column("detail", Text, nullable=False, default=""),
    Index("audit_by_key", "entity", "key"),
)

activation = Table(
    "activation",
    metadata,
    Column("id", Number, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String(16), nullable=False, doc="part of the forecast: segmenter, generator, ..."),
    Column("sha256", String(64), nullable=False, doc="of the bundle in force; empty: the shipped default"),
    Column("event", String(16), nullable=False, doc="activated or rolled back"),
    Column("below", Number, doc="row that rolling back returns to; NULL: the shipped default"),
    Index("activation_by_kind", "kind", "id"),
)

revision_models = Table(
    "revision_models",
    metadata,
    Column("revision_id", Number, ForeignKey("revision.id"), primary_key=True),
    Column("fence", Integer, nullable=False, doc="start of the job that these bundles belong to"),
    Column("key", String(64), nullable=False, doc="digest over all bundles and the models' settings"),
    Column("bundles", Text, nullable=False, doc="JSON object: part of the forecast to digest"),
)

review = Table(
    "review",
    metadata,
    Column("revision_id", Number, ForeignKey("revision.id"), primary_key=True),
    Column("models_key", String(64), nullable=False, doc="bundles that drew the outlines"),
    Column("reason", Text, nullable=False),
    Column("held_at", Float, nullable=False),
    Column("decision", String(16), nullable=False, default="", doc="released, rejected, or open"),
    Column("decided_at", Float),
)

repeat = Table(
    "repeat",
    metadata,
    Column("id", Number, primary_key=True),
    Column("study_instance_uid", String(64), nullable=False),
    Column("at", Float, nullable=False),
)


def database_file(data_dir: Path) -> Path:
    """Return the file of a data folder's database."""
    return data_dir / "node.sqlite"


def open_database(data_dir: Path, url: str = "") -> Engine:
    """Open (and create if absent) a database. Use it by `reading`, `writing` and `adding`.

    Parameters
    ----------
    data_dir : Path
        Where the SQLite file is.
    url : str
        Address of a PostgreSQL database, ``postgresql://user:password@host/name``; empty for SQLite.

    Raises
    ------
    ConfigurationError
        The address is none of PostgreSQL, or nobody answers there. The message has no password.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    engine = postgresql_engine(url) if url else sqlite_engine(database_file(data_dir))
    try:
        # Processes that start at once take turns here, so that each table is made once.
        with writing(engine) as connection:
            metadata.create_all(connection)
            add_missing_columns(connection, metadata)
            check_durable(connection)
    except OperationalError as error:
        engine.dispose()
        if not url:
            raise
        raise ConfigurationError(f"the database cannot be used: {first_line(error)}") from error
    return engine


def node_database(settings: NodeSettings) -> Engine:
    """Open the database that the settings name."""
    return open_database(settings.data_dir, settings.storage.database.url())


def has_database(settings: NodeSettings) -> bool:
    """Return whether a node ever ran with these settings."""
    return settings.storage.database.is_remote or database_file(settings.data_dir).is_file()


def empty_database() -> Engine:
    """Return a database in memory without rows: what a data folder without a node has to say."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    return engine


def is_postgresql(engine: Engine) -> bool:
    """Return whether a database is PostgreSQL; else it is SQLite."""
    return engine.dialect.name == "postgresql"


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One write transaction: takes the write lock at once (waiting up to 30 s), commits at the end.

    There is one writer at a time, on PostgreSQL too: states are read and then changed, and the assembler
    goes by the highest row number that it saw, which holds only while rows are committed in the order
    of their numbers. An advisory lock does this with certainty for every statement there is, where row
    locks would have to be thought of at each, and SERIALIZABLE would end transactions that had worked.
    The lock is taken by the first statement of a READ COMMITTED transaction, so that all later ones see
    what the writer before has committed. It falls with the transaction, and so with its connection.
    """
    if not is_postgresql(engine):
        with engine.execution_options(immediate=True).begin() as connection:
            yield connection
        return
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:c, :k)"), {"c": LOCKS, "k": NODE_LOCK})
        yield connection


@contextmanager
def adding(engine: Engine, key: str) -> Iterator[Connection]:
    """One write transaction that touches only rows of one key; others of other keys go on beside it.

    On PostgreSQL listeners add what they receive side by side, and one flush of the server's log serves
    many; a `writing` transaction waits until none is under way, and so never sees a row whose number is
    higher than that of one still to come. On SQLite this is `writing`.
    """
    if not is_postgresql(engine):
        with writing(engine) as connection:
            yield connection
        return
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:c, :k)"), {"c": LOCKS, "k": NODE_LOCK})
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:c, hashtext(:key))"), {"c": KEY_LOCKS, "key": key}
        )
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot, for reading only; never blocks a writer."""
    if is_postgresql(engine):
        engine = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with engine.connect() as connection:
        yield connection
