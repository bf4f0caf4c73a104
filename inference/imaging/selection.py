"""What selection decided: the series of each phase, and why each other series was not taken."""

from __future__ import annotations

from dataclasses import dataclass

from inference.case import Instance, Phase, Series
from inference.results import RejectedSeries

PRIMARY_ORDER: tuple[Phase, ...] = (
    Phase.PORTAL_VENOUS,
    Phase.ARTERIAL,
    Phase.DELAYED,
    Phase.UNKNOWN,
    Phase.NATIVE,
    Phase.T1_PORTAL_VENOUS,
    Phase.T1_ARTERIAL,
    Phase.T1,
    Phase.T2,
)
"""Which phase is primary when no segmentation decides."""


@dataclass(frozen=True, slots=True)
class ChosenSeries:
    """One series that was chosen for a phase, and what the phase was concluded from."""

    phase: Phase
    series: Series
    evidence: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The series of one study that a forecast uses.

    Attributes
    ----------
    chosen : tuple of ChosenSeries
        The first is primary: everything is measured on its grid. Empty when no series is usable.
    segmentations : tuple of Instance
        Segmentation objects, the one to trust first.
    rejected : tuple of RejectedSeries
        Every other series, each with its reason.
    alternatives : tuple of ChosenSeries
        The best series of other acquisitions that the attributes give the phase of a chosen one. They
        are also in `rejected`, and taken where their images show a phase that would else be missing.
    """

    study_instance_uid: str
    chosen: tuple[ChosenSeries, ...]
    segmentations: tuple[Instance, ...]
    rejected: tuple[RejectedSeries, ...]
    alternatives: tuple[ChosenSeries, ...] = ()
