"""The service that assembles studies: reads what came, applies the policy, routes, and queues jobs.

Everything it knows is in the database, so that it goes on after a kill where it stopped. One runs
for each data folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from dicom_node.bundles.record import recorded_key
from dicom_node.clock import Clock
from dicom_node.database import instance, reading, repeat, result_object, study, writing
from dicom_node.digests import inputs_digest
from dicom_node.errors import NodeError, TransientError
from dicom_node.intake import assembly
from dicom_node.intake.assembly import Arrivals, Complete, Confirm, Fetch, Hold, PacsSeries, SeriesArrival
from dicom_node.intake.damaged import SEND_AGAIN, put_damaged_aside
from dicom_node.jobs.engine import Engine
from dicom_node.jobs.ledger import Ledger, Plan, RevisionRow
from dicom_node.jobs.states import Revision, RevisionEvent
from dicom_node.routing.facts import study_facts
from dicom_node.routing.rules import Decision, Router
from dicom_node.settings import Action, AssemblySettings
from dicom_node.storage.local import local_store
from dicom_node.storage.store import Store
from inference.errors import RejectedInput
from inference.imaging.reading import read_case

_log = logging.getLogger(__name__)

REPEATABLE = frozenset(
    {
        Revision.DONE,
        Revision.DELIVERING,
        Revision.DELIVERED,
        Revision.REFUSED,
        Revision.FAILED,
        Revision.REVIEW,
    }
)
"""States in which the same study, sent again, is processed again where other models are in force."""
ASK_AGAIN_S = 10.0
"""Between two questions to the PACS about one study."""


class Pacs(Protocol):
    """What the assembler asks of a PACS. Both raise `TransientError` when it cannot be asked now."""

    def series(self, study_instance_uid: str) -> Mapping[str, PacsSeries]:
        """Return what the PACS has of a study, by Series Instance UID."""
        ...

    def fetch(self, study_instance_uid: str, series_instance_uid: str, have: frozenset[str]) -> int:
        """Fetch the instances of a series that are not in `have` into the spool; returns how many came."""
        ...


class Reprocessing(Protocol):
    """What the assembler asks about studies that come from an archive (`dicom_node.batch`)."""

    def coming(self, revision: RevisionRow, now: float) -> assembly.Decision | None:
        """Return what to do with a study of which more is being retrieved; None for all others."""
        ...

    def priority(self, study_instance_uid: str, given: int) -> int:
        """Return the priority of a study's job, where a rule gives `given`."""
        ...


ModelsKey = Callable[[], str]
"""Returns a digest of the models in force; another one means that the same images give another result."""


def _no_models() -> str:
    return ""


@dataclass
class Assembler:
    """Moves studies from RECEIVING to QUEUED, IGNORED or HELD."""

    database: sa.Engine
    ledger: Ledger
    engine: Engine
    router: Router
    settings: AssemblySettings
    data_dir: Path
    clock: Clock
    pacs: Pacs | None = None
    models: ModelsKey = _no_models
    elsewhere: Store | None = None
    reprocessing: Reprocessing | None = None
    _seen_id: int = -1
    _asked_at: dict[str, float] = field(default_factory=dict)

    def step(self) -> None:
        """Do everything that is due now."""
        self._note_arrivals()
        self._note_repeats()
        for row in self.ledger.revisions([Revision.RECEIVING]):
            self._assemble(row)
        for row in self.ledger.revisions([Revision.COMPLETE]):
            self._route(row)
        for row in self.ledger.revisions([Revision.QUEUED]):
            queue = Plan.from_json(row.plan).queue
            self.engine.put(row.job_key, {"revision_id": row.id}, row.priority, queue)
        self._fail_dead_jobs()

    # -------------------------------------------------------------- what came

    def _note_arrivals(self) -> None:
        """Open a revision for each study of which something new came, superseding the one before."""
        if self._seen_id < 0:
            with reading(self.database) as connection:
                highest = connection.execute(sa.select(sa.func.max(study.c.last_instance_id))).scalar()
            self._seen_id = highest or 0
        arrived = instance.c.id > self._seen_id
        own = sa.select(result_object.c.sop_instance_uid)
        # One transaction for all studies: the highest id noted is where the next start goes on.
        with writing(self.database) as connection:
            connection.execute(
                sa.update(instance)
                .where(arrived, instance.c.sop_instance_uid.in_(own))
                .values(made_here=True)
            )
            rows = connection.execute(sa.select(instance).where(arrived).order_by(instance.c.id)).all()
            by_study: dict[str, list[sa.Row[Any]]] = {}
            for row in rows:
                if not row.made_here:
                    by_study.setdefault(row.study_instance_uid, []).append(row)
            noted = [self._note_study(connection, uid, of_study) for uid, of_study in by_study.items()]
        if rows:
            self._seen_id = rows[-1].id
        for superseded in noted:
            if superseded is not None:
                self.engine.cancel(superseded.job_key)

    def _note_study(
        self, connection: sa.Connection, uid: str, arrived: list[sa.Row[Any]]
    ) -> RevisionRow | None:
        """Note what came of one study; returns the revision that it supersedes."""
        last = arrived[-1]
        values = {
            "last_instance_at": max(float(r.received_at) for r in arrived),
            "last_instance_id": last.id,
            "calling_ae_title": last.calling_ae_title,
        }
        known = connection.execute(sa.update(study).where(study.c.study_instance_uid == uid).values(**values))
        if known.rowcount == 0:
            first_at = min(float(r.received_at) for r in arrived)
            connection.execute(
                sa.insert(study).values(study_instance_uid=uid, first_instance_at=first_at, **values)
            )
        current = self.ledger.latest(connection, uid)
        if current is not None and current.state is Revision.RECEIVING:
            return None
        if current is not None:
            self.ledger.supersede(connection, current.id)
        self.ledger.open_revision(connection, uid)
        return current

    def _note_repeats(self) -> None:
        """Open a revision for each study that was sent again after other models were put in force."""
        with reading(self.database) as connection:
            repeats = connection.execute(sa.select(repeat.c.id, repeat.c.study_instance_uid)).all()
        if not repeats:
            return
        key = self.models()
        with writing(self.database) as connection:
            for uid in sorted({row.study_instance_uid for row in repeats}):
                ids = [row.id for row in repeats if row.study_instance_uid == uid]
                current = self.ledger.latest(connection, uid)
                if current is not None and current.state is Revision.RUNNING:
                    continue  # the job finishes with what it began with; then this is looked at again
                connection.execute(sa.delete(repeat).where(repeat.c.id.in_(ids)))
                why = None if current is None else self._why_again(connection, current, key)
                if current is not None and why is not None:
                    self.ledger.supersede(connection, current.id, why)
                    self.ledger.open_revision(connection, uid)

    def _why_again(self, connection: sa.Connection, row: RevisionRow, key: str) -> str | None:
        """Return why a study that was sent again is worked on again; None where nothing is new."""
        if self._made_with_others(connection, row, key):
            return "sent again, and other models are in force"
        if row.state is Revision.HELD and row.reason == SEND_AGAIN:
            return "sent again, after files of it were damaged"
        return None

    def _made_with_others(self, connection: sa.Connection, row: RevisionRow, key: str) -> bool:
        """Whether a revision has been worked on, with other models than those in force."""
        if row.state not in REPEATABLE:
            return False
        made_with = recorded_key(connection, row.id)
        return made_with is not None and made_with != key

    def _arrivals(self, row: RevisionRow) -> Arrivals:
        columns = instance.c
        query = (
            sa.select(
                columns.series_instance_uid,
                sa.func.count(sa.distinct(columns.sop_instance_uid)),
                sa.func.max(columns.received_at),
                sa.func.max(sa.cast(columns.conflicts, sa.Integer)),
            )
            .where(columns.study_instance_uid == row.study_instance_uid, columns.made_here.is_(False))
            .group_by(columns.series_instance_uid)
        )
        with reading(self.database) as connection:
            found = connection.execute(query).all()
        return Arrivals(
            series={uid: SeriesArrival(count, last_at) for uid, count, last_at, _ in found},
            opened_at=row.created_at,
            conflicts=any(conflicts for *_, conflicts in found),
        )

    # -------------------------------------------------------------- completion

    def _assemble(self, row: RevisionRow) -> None:
        arrivals = self._arrivals(row)
        decision = self._coming(row) or assembly.decide(arrivals, self.settings, self.clock())
        if isinstance(decision, Confirm):
            decision = self._confirm(row, arrivals)
        if isinstance(decision, Fetch):
            self._fetch(row.study_instance_uid, decision.series)
        elif isinstance(decision, Hold):
            event = RevisionEvent.CONFLICT_FOUND if arrivals.conflicts else RevisionEvent.STUDY_INCOMPLETE
            self.ledger.change(row.id, event, decision.reason)
        elif isinstance(decision, Complete):
            self._complete(row)

    def _coming(self, row: RevisionRow) -> assembly.Decision | None:
        return None if self.reprocessing is None else self.reprocessing.coming(row, self.clock())

    def _priority(self, row: RevisionRow, given: int) -> int:
        if self.reprocessing is None:
            return given
        return self.reprocessing.priority(row.study_instance_uid, given)

    def _confirm(self, row: RevisionRow, arrivals: Arrivals) -> assembly.Decision:
        """Ask the PACS; where it cannot be asked, wait, and hold the study after the longest wait."""
        uid, now = row.study_instance_uid, self.clock()
        if self.pacs is None or 0 <= now - self._asked_at.get(uid, 0.0) < ASK_AGAIN_S:
            return Complete() if self.pacs is None else assembly.Wait(now + ASK_AGAIN_S)
        self._asked_at[uid] = now
        try:
            found = self.pacs.series(uid)
        except NodeError as error:
            _log.warning("the PACS cannot be asked about a study: %s", error)
            if now - row.created_at < self.settings.maximum_wait_s:
                return assembly.Wait(now + ASK_AGAIN_S)
            return Hold("the PACS could not be asked whether the study is complete")
        made_here = self._series_made_here(uid)
        inputs = {series: facts for series, facts in found.items() if series not in made_here}
        return assembly.decide(arrivals, self.settings, now, inputs)

    def _series_made_here(self, uid: str) -> frozenset[str]:
        returned = sa.select(result_object.c.series_instance_uid).where(
            result_object.c.study_instance_uid == uid
        )
        received = sa.select(instance.c.series_instance_uid).where(
            instance.c.study_instance_uid == uid, instance.c.made_here
        )
        with reading(self.database) as connection:
            return frozenset(connection.execute(returned.union(received)).scalars())

    def _fetch(self, uid: str, series: tuple[str, ...]) -> None:
        if self.pacs is None:
            return
        have = frozenset(f.sop_instance_uid for f in self.ledger.inputs(uid))
        for series_uid in series:
            try:
                count = self.pacs.fetch(uid, series_uid, have)
                _log.info("fetched %d missing instances of a series", count)
            except NodeError as error:
                _log.warning("missing instances could not be fetched: %s", error)

    def _complete(self, row: RevisionRow) -> None:
        digest = self._digest(row)
        self._asked_at.pop(row.study_instance_uid, None)
        delivered = [r for r in self._same_inputs(row, digest) if self.ledger.delivered(r.id)]
        if delivered:
            reason = f"the same images were already processed in revision {delivered[-1].number}"
            self.ledger.change(row.id, RevisionEvent.RULE_IGNORES, reason, inputs_sha256=digest)
        else:
            self.ledger.change(row.id, RevisionEvent.STUDY_COMPLETE, inputs_sha256=digest)

    def _digest(self, row: RevisionRow) -> str:
        files = self.ledger.inputs(row.study_instance_uid)
        return inputs_digest({f.sop_instance_uid: f.sha256 for f in files})

    def _same_inputs(self, row: RevisionRow, digest: str) -> list[RevisionRow]:
        """Return the other revisions of the same images, but for those made with other models."""
        of_study = self.ledger.revisions(study_instance_uid=row.study_instance_uid)
        same = [r for r in of_study if r.inputs_sha256 == digest and r.id != row.id]
        if not same:
            return []
        key = self.models()
        with reading(self.database) as connection:
            return [r for r in same if recorded_key(connection, r.id) in (None, key)]

    def _job_time(self, row: RevisionRow, digest: str) -> float:
        """Return the time of the first job on these inputs, so that the same again has the same bytes."""
        earlier = [r.job_time for r in self._same_inputs(row, digest) if r.job_time is not None]
        return min([*earlier, row.job_time or float(int(self.clock()))])

    # -------------------------------------------------------------- routing

    def _route(self, row: RevisionRow) -> None:
        store = self.elsewhere or local_store(self.data_dir)
        inputs = self.ledger.inputs(row.study_instance_uid)
        keys = [f.path for f in inputs]
        try:
            files = store.local(keys)
            decision = self.router.decide(
                study_facts(read_case(list(files.values())), self.ledger.sender(row.study_instance_uid))
            )
        except RejectedInput as error:
            if put_damaged_aside(store, inputs, files):
                self.ledger.change(row.id, RevisionEvent.INPUT_DAMAGED, SEND_AGAIN)
            else:
                self.ledger.change(row.id, RevisionEvent.RULE_HOLDS, str(error))
            return
        except TransientError as error:
            _log.warning("a study cannot be routed now: %s", error)
            return
        finally:
            store.forget(keys)
        self._apply(row, decision)

    def _apply(self, row: RevisionRow, decision: Decision) -> None:
        if decision.action is Action.FORECAST and decision.plan is not None:
            # A study that was held while it was received, and retried by a person, has no digest yet.
            digest = row.inputs_sha256 or self._digest(row)
            self.ledger.change(
                row.id,
                RevisionEvent.RULE_FORECASTS,
                inputs_sha256=digest,
                rule=decision.rule,
                plan=decision.plan.to_json(),
                priority=self._priority(row, decision.plan.priority),
                job_time=self._job_time(row, digest),
                rounds=row.rounds + 1,
            )
            return
        events = {Action.IGNORE: RevisionEvent.RULE_IGNORES, Action.HOLD: RevisionEvent.RULE_HOLDS}
        self.ledger.change(row.id, events[decision.action], decision.reason, rule=decision.rule)

    # -------------------------------------------------------------- jobs that will not be tried again

    def _fail_dead_jobs(self) -> None:
        for status in self.engine.bury():
            row = self.ledger.revision(int(status.payload["revision_id"]))
            if row.state in (Revision.QUEUED, Revision.RUNNING) and status.key == row.job_key:
                self.ledger.change(row.id, RevisionEvent.JOB_FAILED, status.error)
