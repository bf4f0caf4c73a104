"""From candidates to a plan: what the rules would do with each, and which were processed already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.batch.archive import count
from dicom_node.batch.candidates import Candidate, Found
from dicom_node.batch.dry_run import expect, input_series, query_facts
from dicom_node.batch.ledger import PlannedStudy
from dicom_node.bundles.record import recorded_key
from dicom_node.database import instance, reading, result_object
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.states import Revision
from dicom_node.routing.rules import Router
from dicom_node.settings import Action

PROCESSED = (Revision.DONE, Revision.DELIVERING, Revision.DELIVERED)
NOT_RETRIEVED = (str(Action.IGNORE), str(Action.HOLD))
"""Expected actions for which a study need not be retrieved."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """One line of a plan's table: how many studies, whether they are retrieved, and why."""

    studies: int
    retrieved: bool
    why: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan that is not written yet.

    Attributes
    ----------
    outside : int
        Candidates that the filters do not mean.
    lines_without_study : tuple of int
        Lines of a list for which the archive has no study.
    """

    studies: tuple[PlannedStudy, ...]
    outlooks: tuple[Outlook, ...]
    outside: int
    lines_without_study: tuple[int, ...]

    @property
    def retrieved(self) -> int:
        """How many studies will be retrieved."""
        return sum(not s.skip for s in self.studies)


def series_made_here(database: sa.Engine, study_instance_uid: str) -> frozenset[str]:
    """Return the series of a study that this node made, and has sent or received back."""
    sent = sa.select(result_object.c.series_instance_uid).where(
        result_object.c.study_instance_uid == study_instance_uid
    )
    received = sa.select(instance.c.series_instance_uid).where(
        instance.c.study_instance_uid == study_instance_uid, instance.c.made_here
    )
    with reading(database) as connection:
        return frozenset(connection.execute(sent.union(received)).scalars())


@dataclass(frozen=True)
class Planner:
    """Judges candidates.

    Attributes
    ----------
    calling_ae : str
        AE title of the archive: results go back there unless a rule says otherwise.
    models : callable
        Digest of the models in force.
    """

    ledger: Ledger
    router: Router
    calling_ae: str
    models: Callable[[], str]

    def draft(self, found: Found) -> Draft:
        """Return the plan for some candidates."""
        key = self.models()
        meant = [c for c in found.candidates if not c.excluded]
        studies = tuple(self._planned(candidate, key) for candidate in meant)
        return Draft(
            studies=studies,
            outlooks=_outlooks(studies),
            outside=len(found.candidates) - len(meant),
            lines_without_study=found.lines_without_study,
        )

    def _planned(self, candidate: Candidate, key: str) -> PlannedStudy:
        uid = candidate.uid
        if candidate.absent:
            return PlannedStudy(uid, 0, "", skip="the archive has no such study")
        made_here = series_made_here(self.ledger.database, uid)
        series = input_series(candidate.series, made_here)
        expected = expect(self.router, query_facts(candidate.study, series, self.calling_ae))
        skip = self._processed(uid, key)
        if not skip and expected.action in NOT_RETRIEVED:
            skip = expected.text
        instances = sum(count(s, "NumberOfSeriesRelatedInstances") or 0 for s in series)
        return PlannedStudy(uid, instances, expected.text, skip)

    def _processed(self, uid: str, key: str) -> str:
        """Return that a study was processed with the models in force, or nothing."""
        with reading(self.ledger.database) as connection:
            latest = self.ledger.latest(connection, uid)
            if latest is None or latest.state not in PROCESSED:
                return ""
            if recorded_key(connection, latest.id) != key:
                return ""
        return f"already processed with the same models (revision {latest.number} is {latest.state})"


def _outlooks(studies: Sequence[PlannedStudy]) -> tuple[Outlook, ...]:
    """Return the table of a plan: retrieved studies first, then by how many there are."""
    counts = Counter((bool(s.skip), s.skip or s.forecast) for s in studies)
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0][1]))
    return tuple(Outlook(n, not skipped, why) for (skipped, why), n in ordered)
