"""Metrics for Prometheus, read from the database when they are asked for.

The database is the one channel that all processes of all machines share and that survives each of them:
states, queues and the outbox are there anyway; what only a listener or a worker knows is added to table
``counter`` every few seconds (`dicom_node.observation.counters`). So any page of the node answers for the
whole node, and a process that ends takes no number with it. Labels are of fixed lists; none has anything
of a patient or a study.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.bundles.activation import Activations
from dicom_node.clock import Clock
from dicom_node.database import audit, reading, result_object, revision
from dicom_node.intake.spool import FreeBytes, free_bytes
from dicom_node.jobs.states import ResultObject, Revision
from dicom_node.observation import listener
from dicom_node.observation.counters import Key, read_counts
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.observation.work import STAGE_RUNS, STAGE_SECONDS, STUDIES_ENDED
from dicom_node.settings import NodeSettings

_log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNDELIVERED = (ResultObject.READY, ResultObject.SENT, ResultObject.COMMITTED)


@dataclass
class ChangeCounts:
    """Counts changes of revisions by going on from the last row that was seen: the table grows for ever."""

    _seen: int = 0
    _counts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, database: sa.Engine) -> Mapping[str, int]:
        """Return how often a revision came into each state."""
        with self._lock, reading(database) as connection:
            highest = connection.execute(sa.select(sa.func.max(audit.c.id))).scalar() or 0
            query = (
                sa.select(audit.c.state_after, sa.func.count())
                .where(audit.c.entity == "revision", audit.c.id > self._seen, audit.c.id <= highest)
                .group_by(audit.c.state_after)
            )
            for state, count in connection.execute(query):
                self._counts[str(state)] = self._counts.get(str(state), 0) + int(count)
            self._seen = int(highest)
            return dict(self._counts)


@dataclass(frozen=True)
class Facts:
    """What the metrics are read from."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    counts: Mapping[Key, float]
    changes: ChangeCounts
    free: FreeBytes = free_bytes


Values = Iterable[tuple[tuple[str, ...], float]]
"""Label values and number."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric: its name, type, meaning, labels, and where its numbers come from.

    Names follow Prometheus: base units, ``_total`` for counters.
    """

    name: str
    family: type[CounterMetricFamily] | type[GaugeMetricFamily]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Facts], Values]


def _counted(name: str) -> Callable[[Facts], Values]:
    """Return a reader of a counter without labels."""
    return lambda facts: [((), facts.counts.get((name, ""), 0.0))]


def _counted_by(name: str) -> Callable[[Facts], Values]:
    """Return a reader of a counter by label."""
    return lambda facts: [((label,), v) for (n, label), v in sorted(facts.counts.items()) if n == name]


def _states(facts: Facts) -> Values:
    query = sa.select(revision.c.state, sa.func.count()).group_by(revision.c.state)
    with reading(facts.database) as connection:
        found = {str(state): count for state, count in connection.execute(query)}
    return [((str(state),), found.get(str(state), 0)) for state in Revision]


def _changes(facts: Facts) -> Values:
    return [((state,), count) for state, count in sorted(facts.changes.read(facts.database).items())]


def _jobs(facts: Facts) -> Values:
    states = {"ready": Revision.QUEUED, "running": Revision.RUNNING}
    query = sa.select(revision.c.state, sa.func.count()).where(revision.c.state.in_(list(states.values())))
    with reading(facts.database) as connection:
        found = {str(s): int(n) for s, n in connection.execute(query.group_by(revision.c.state))}
    return [((name,), found.get(str(state), 0)) for name, state in states.items()]


def queued_since(database: sa.Engine) -> float | None:
    """Return when the study that waits longest for its job was queued; None when none waits."""
    query = sa.select(sa.func.min(revision.c.changed_at)).where(revision.c.state == Revision.QUEUED)
    with reading(database) as connection:
        return connection.execute(query).scalar()


def undelivered_since(database: sa.Engine) -> dict[str, float]:
    """Return for each peer since when its oldest undelivered result waits."""
    columns = (result_object.c.peer, sa.func.min(revision.c.changed_at))
    query = (
        sa.select(*columns)
        .join(revision, revision.c.id == result_object.c.revision_id)
        .where(result_object.c.state.in_(UNDELIVERED))
        .group_by(result_object.c.peer)
    )
    with reading(database) as connection:
        return {peer: float(at) for peer, at in connection.execute(query)}


def _oldest_job(facts: Facts) -> Values:
    since = queued_since(facts.database)
    return [((), 0.0 if since is None else max(0.0, facts.clock() - since))]


def _outbox(facts: Facts) -> Values:
    columns = (result_object.c.peer, result_object.c.state)
    query = sa.select(*columns, sa.func.count()).where(result_object.c.state.in_(UNDELIVERED))
    with reading(facts.database) as connection:
        found = {(p, str(s)): n for p, s, n in connection.execute(query.group_by(*columns))}
    peers = [p.name for p in facts.settings.peers]
    return [((p, str(s)), found.get((p, str(s)), 0)) for p in peers for s in UNDELIVERED]


def _outbox_age(facts: Facts) -> Values:
    since, now = undelivered_since(facts.database), facts.clock()
    ages = {p.name: max(0.0, now - since[p.name]) if p.name in since else 0.0 for p in facts.settings.peers}
    return [((peer,), age) for peer, age in ages.items()]


def _disk(facts: Facts) -> Values:
    return [((), float(facts.free(facts.settings.data_dir)))]


def _watermark(facts: Facts) -> Values:
    return [((), float(facts.settings.listener.minimum_free_bytes))]


def _alive(facts: Facts) -> Values:
    beats, now = Heartbeats(facts.database, facts.clock).all(), facts.clock()
    roles = sorted({"listener", "steward", "worker", "page", *(b.role for b in beats)})
    return [((r,), sum(b.role == r and b.is_alive(now) for b in beats)) for r in roles]


def _beat_age(facts: Facts) -> Values:
    now = facts.clock()
    beats = Heartbeats(facts.database, facts.clock).all()
    return [((b.role, b.owner.partition("@")[2]), max(0.0, now - b.beat_at)) for b in beats]


def _bundles(facts: Facts) -> Values:
    activations = Activations(facts.database, facts.settings.data_dir, facts.clock)
    return [((str(kind), sha256), 1.0) for kind, sha256 in sorted(activations.named_in_force().items())]


_C, _G = CounterMetricFamily, GaugeMetricFamily

MEASURES: tuple[Measure, ...] = (
    Measure(
        "hepatocast_instances_received_total",
        _C,
        "C-STORE requests answered with success.",
        (),
        _counted(listener.INSTANCES),
    ),
    Measure(
        "hepatocast_received_bytes_total",
        _C,
        "Bytes of data sets answered with success.",
        (),
        _counted(listener.BYTES),
    ),
    Measure(
        "hepatocast_instances_refused_total",
        _C,
        "C-STORE requests refused, by class of status (PS3.4 table B.2-1).",
        ("reason",),
        _counted_by(listener.STORE_REFUSED),
    ),
    Measure(
        "hepatocast_associations_opened_total",
        _C,
        "Associations accepted by the listener.",
        (),
        _counted(listener.OPENED),
    ),
    Measure(
        "hepatocast_associations_refused_total",
        _C,
        "Associations rejected, by reason (PS3.8 table 9-21).",
        ("reason",),
        _counted_by(listener.REFUSED),
    ),
    Measure("hepatocast_study_revisions", _G, "Study revisions by state.", ("state",), _states),
    Measure(
        "hepatocast_state_changes_total",
        _C,
        "Changes of study revisions into a state since the database was made.",
        ("state",),
        _changes,
    ),
    Measure(
        "hepatocast_studies_not_forecast_total",
        _C,
        "Jobs that ended without a forecast, by class of reason.",
        ("reason",),
        _counted_by(STUDIES_ENDED),
    ),
    Measure("hepatocast_jobs", _G, "Jobs that wait (ready) or run (running).", ("state",), _jobs),
    Measure(
        "hepatocast_oldest_queued_study_seconds",
        _G,
        "How long the study at the end of its patience has been queued; 0 when none is.",
        (),
        _oldest_job,
    ),
    Measure(
        "hepatocast_outbox_objects",
        _G,
        "Result objects not yet delivered, by peer and state.",
        ("peer", "state"),
        _outbox,
    ),
    Measure(
        "hepatocast_outbox_oldest_seconds",
        _G,
        "Age of the oldest study whose results are not delivered, by peer; 0 when there is none.",
        ("peer",),
        _outbox_age,
    ),
    Measure("hepatocast_disk_free_bytes", _G, "Free bytes of the data folder's file system.", (), _disk),
    Measure(
        "hepatocast_disk_watermark_bytes",
        _G,
        "Below it the listener takes nothing (minimum_free_bytes).",
        (),
        _watermark,
    ),
    Measure("hepatocast_processes_alive", _G, "Processes with a recent sign of life.", ("role",), _alive),
    Measure(
        "hepatocast_heartbeat_age_seconds",
        _G,
        "Since the last sign of life of each process.",
        ("role", "process"),
        _beat_age,
    ),
    Measure(
        "hepatocast_bundle_in_force",
        _G,
        "1 for the bundle in force for each part of the forecast.",
        ("part", "sha256"),
        _bundles,
    ),
)
STAGES = "hepatocast_stage_seconds"
"""A summary by stage: how long stages of a forecast took (timings_s of result.json), sum and count."""
UP = "hepatocast_metric_failed"
"""Which metrics could not be read at this time: the others are still answered."""


@dataclass(frozen=True, eq=False)
class NodeCollector(Collector):
    """Reads all metrics anew for each scrape."""

    settings: NodeSettings
    database: sa.Engine
    clock: Clock
    free: FreeBytes = free_bytes
    changes: ChangeCounts = field(default_factory=ChangeCounts)

    def collect(self) -> Iterator[Metric]:
        """Yield all families; one that cannot be read is left out and named in `UP`."""
        failed: dict[str, float] = {}
        try:
            counts = read_counts(self.database)
        except SQLAlchemyError:
            counts, failed["counters"] = {}, 1.0
        facts = Facts(self.settings, self.database, self.clock, counts, self.changes, self.free)
        for measure in MEASURES:
            family = measure.family(measure.name.removesuffix("_total"), measure.help, labels=measure.labels)
            try:
                for labels, value in measure.read(facts):
                    family.add_metric(labels, value)
            except (SQLAlchemyError, OSError) as error:
                _log.warning("metric %s cannot be read (%s)", measure.name, type(error).__name__)
                failed[measure.name] = 1.0
                continue
            yield family
        yield _stages(facts)
        troubles = GaugeMetricFamily(UP, "Metrics that could not be read now.", labels=("metric",))
        for name in sorted(failed):
            troubles.add_metric((name,), 1.0)
        yield troubles


def _stages(facts: Facts) -> Metric:
    family = SummaryMetricFamily(STAGES, "Time of each stage of a forecast.", labels=("stage",))
    for (stage,), seconds in _counted_by(STAGE_SECONDS)(facts):
        runs = facts.counts.get((STAGE_RUNS, stage), 0.0)
        family.add_metric((stage,), count_value=int(runs), sum_value=seconds)
    return family


def exposition(collector: NodeCollector) -> bytes:
    """Return all metrics in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
