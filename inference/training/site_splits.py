"""Division of a cohort by patient into training, validation and test, alike in centre and regimen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from inference.errors import TrainingDataError
from inference.randomness import RandomStreams
from inference.settings import Frozen
from inference.training.cohort import Split


class SplitSettings(Frozen):
    """Shares of the splits; 70 to 30 with validation inside the training part."""

    test_share: float = Field(0.3, gt=0, lt=1, description="of all patients")
    validation_share: float = Field(0.15, gt=0, lt=1, description="of the patients that are not test")
    minimum_patients: int = Field(20, ge=4, description="below this a division says nothing")
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class Stratum:
    """What must be alike in the splits."""

    centre: str
    regimen_id: str


def split_patients(strata: Mapping[str, Stratum], settings: SplitSettings) -> dict[str, Split]:
    """Divide patients; the same patients and seed give the same division, in whatever order they come.

    Patients are shuffled in each stratum, strata follow each other, and every so many patients one goes
    to the test part: the whole and each stratum are within one patient of the share.

    Raises
    ------
    TrainingDataError
        There are too few patients.
    """
    if len(strata) < settings.minimum_patients:
        raise TrainingDataError(
            f"{len(strata)} patients can be used, and a division into training and test needs "
            f"{settings.minimum_patients}"
        )
    streams = RandomStreams(settings.seed)
    drawn = {p: streams.derive("split", p).random() for p in strata}
    ordered = sorted(strata, key=lambda p: (strata[p].centre, strata[p].regimen_id, drawn[p], p))
    test = _every(ordered, settings.test_share)
    rest = [p for p in ordered if p not in test]
    validation = _every(rest, settings.validation_share)
    splits = {
        p: Split.TEST if p in test else Split.VALIDATION if p in validation else Split.TRAIN for p in strata
    }
    empty = [s.value for s in Split if s not in splits.values()]
    if empty:
        raise TrainingDataError(f"{len(strata)} patients leave no patient for {' and '.join(empty)}")
    return splits


def _every(ordered: Sequence[str], share: float) -> set[str]:
    """Take a share at equal distances; counts are rounded to the nearest whole, ties upwards."""
    return {
        p for k, p in enumerate(ordered) if int((k + 1) * share + 0.5 + 1e-9) > int(k * share + 0.5 + 1e-9)
    }
