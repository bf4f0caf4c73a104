"""ATOM: which therapy follows from the scores of the four SELECTION models.

The order of the branches is a reconstruction. The publication shows it in a figure (3b) that is not in its
text; the text says that a score is held against the median score of the training patients, that the first
stage chooses between TACE, HAIC and neither, and that the second one adds systemic therapy or advises
against. We reconstruct:

1. TACE or HAIC alone, whichever reaches its median; where both do, the one that exceeds it by more.
2. Where neither does, TACE or HAIC with systemic therapy in the same way.
3. Where nothing does, none of the four.

It agrees with how often the publication's external patients were advised against: 40 of 188 and 24 of 89 in
the first stage, where about a quarter would fall below two medians, and 5 of 61 and 4 of 46 in the second,
where somewhat more than a sixteenth would fall below all four.

References
----------
Lin et al. 2024, eClinicalMedicine 75:102808, Methods and table 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

RECONSTRUCTED = (
    "The order of the branches is a reconstruction: the publication shows it in a figure that its text does "
    "not describe."
)


class Therapy(StrEnum):
    """A cohort of the publication, and so a therapy at the end of the flow."""

    TACE = "tace"
    HAIC = "haic"
    TACE_SYSTEMIC = "tace_systemic"
    HAIC_SYSTEMIC = "haic_systemic"


class Stage(StrEnum):
    """Where the flow ended."""

    ALONE = "intra-arterial therapy alone"
    COMBINED = "intra-arterial therapy with systemic therapy"
    AGAINST = "none of the four therapies"


STAGES: Mapping[Stage, tuple[Therapy, ...]] = {
    Stage.ALONE: (Therapy.TACE, Therapy.HAIC),
    Stage.COMBINED: (Therapy.TACE_SYSTEMIC, Therapy.HAIC_SYSTEMIC),
}
"""What each stage chooses from; the first of two that exceed their medians by the same."""

PUBLISHED_MEDIANS: Mapping[Therapy, float] = {
    Therapy.TACE: 0.4035,
    Therapy.TACE_SYSTEMIC: 0.6130,
    Therapy.HAIC: 0.3368,
    Therapy.HAIC_SYSTEMIC: 0.6458,
}
"""Median scores of the publication's training patients. They belong to its networks: scores of other networks
are held against the medians of their own training patients."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Where the flow ended.

    Attributes
    ----------
    therapy : Therapy or None
        None where the flow advises against all four.
    margin : float
        Score less median of that therapy, else of the therapy that came nearest to its median.
    """

    stage: Stage
    therapy: Therapy | None
    margin: float


def advise(scores: Mapping[Therapy, float], medians: Mapping[Therapy, float]) -> Advice:
    """Follow the flow; higher scores are better.

    Raises
    ------
    KeyError
        A score or a median is missing: the flow needs all four.
    """
    margins = {therapy: scores[therapy] - medians[therapy] for therapy in Therapy}
    for stage, therapies in STAGES.items():
        best = _best(margins, therapies)
        if margins[best] >= 0:
            return Advice(stage, best, margins[best])
    nearest = _best(margins, tuple(Therapy))
    return Advice(Stage.AGAINST, None, margins[nearest])


def _best(margins: Mapping[Therapy, float], therapies: Sequence[Therapy]) -> Therapy:
    return max(therapies, key=lambda therapy: margins[therapy])
