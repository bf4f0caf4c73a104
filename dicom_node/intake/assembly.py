"""When a study is complete: a pure policy, which knows nothing of clocks, sockets or databases.

A study is complete when nothing of it has come for a while, whatever association it came over, and,
where a PACS can be asked, when the PACS has no instance that is not here. A released association says
nothing. Instances of this product's making are not part of a study's input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from dicom_node.settings import AssemblySettings

INPUT_MODALITIES = frozenset({"CT", "MR", "SEG", "XA", "SR"})
"""Modalities whose absence makes a study incomplete; others in the PACS are not waited for."""


@dataclass(frozen=True, slots=True)
class SeriesArrival:
    """What has come of one series: distinct instances, and when the last one came."""

    instances: int
    last_at: float


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What has come of one study.

    Attributes
    ----------
    opened_at : float
        When the revision was opened.
    conflicts : bool
        Two different objects came with one SOP Instance UID.
    """

    series: Mapping[str, SeriesArrival]
    opened_at: float
    conflicts: bool


@dataclass(frozen=True, slots=True)
class PacsSeries:
    """One series as the PACS has it (Number of Series Related Instances, PS3.4 C.6.2.1.3)."""

    modality: str
    instances: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until`."""

    until: float


@dataclass(frozen=True, slots=True)
class Complete:
    """All of the study is here."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """The study has been quiet; the PACS is to be asked what it has."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """These series are not all here, and are to be fetched from the PACS."""

    series: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """A person has to look."""

    reason: str


Decision: TypeAlias = Wait | Complete | Confirm | Fetch | Hold

CONFLICT = (
    "two different objects came with the same SOP Instance UID; both are kept, and a person has to look"
)


def quiet_until(arrivals: Arrivals, settings: AssemblySettings) -> float:
    """Return the time at which every series and the study as a whole have been quiet long enough."""
    by_series = (s.last_at + settings.series_quiet_period_s for s in arrivals.series.values())
    by_study = (s.last_at + settings.study_quiet_period_s for s in arrivals.series.values())
    return max((*by_series, *by_study))


def incomplete_series(arrivals: Arrivals, pacs: Mapping[str, PacsSeries]) -> tuple[str, ...]:
    """Return the series of which the PACS has more than is here, in order."""
    here = {uid: s.instances for uid, s in arrivals.series.items()}
    return tuple(
        sorted(
            uid
            for uid, series in pacs.items()
            if series.modality in INPUT_MODALITIES and series.instances > here.get(uid, 0)
        )
    )


def decide(
    arrivals: Arrivals, settings: AssemblySettings, now: float, pacs: Mapping[str, PacsSeries] | None = None
) -> Decision:
    """Return what to do with a study that is being received.

    Parameters
    ----------
    pacs : mapping, optional
        What the PACS has of the study, without series that this node made, if it has been asked now.
    """
    if arrivals.conflicts:
        return Hold(CONFLICT)
    until = quiet_until(arrivals, settings)
    if now < until:
        return Wait(until)
    if settings.confirm_with is None:
        return Complete()
    if pacs is None:
        return Confirm()
    missing = incomplete_series(arrivals, pacs)
    if not missing:
        return Complete()
    if now - arrivals.opened_at < settings.maximum_wait_s:
        return Fetch(missing)
    return Hold(
        f"{len(missing)} series are not complete after {settings.maximum_wait_s:.0f} s; "
        f"the PACS has more of them than came, and they could not be fetched"
    )
