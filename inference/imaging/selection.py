"""What selection decided: the series of each phase, and why each other series was not taken."""

from __future__ import annotations

from dataclasses import dataclass

from inference.case import Instance, Phase, Series
from inference.results import RejectedSeries


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
    """

    study_instance_uid: str
    chosen: tuple[ChosenSeries, ...]
    segmentations: tuple[Instance, ...]
    rejected: tuple[RejectedSeries, ...]
