"""Division of a cohort by patient: training, validation, test, external centres, parts for cross-fitting.

A cohort has one division, and all that is trained and evaluated keeps to it. A site's preparation makes it,
and `write_split` makes another: it writes ``split.csv`` into the cohort, which `Cohort.open` goes by, and
seals the cohort anew. The digest changes with the division, so that a model trained under the former one
passes for one of another cohort.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from pydantic import Field

from inference.errors import TrainingDataError
from inference.randomness import RandomStreams
from inference.settings import Frozen
from inference.training.cohort import EXTERNAL, SPLIT_FILE, Cohort, Split, sealed

LEFT_OUT = "left out"
"""Split of patients whom one model of a cross-fitted set never sees."""
_PART = re.compile(r"([1-9]\d?)/([2-9]|\d{2})")


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
    ordered = _ordered(strata, RandomStreams(settings.seed), "split")
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


def _ordered(strata: Mapping[str, Stratum], streams: RandomStreams, name: str) -> list[str]:
    """Return the patients stratum by stratum, shuffled within each."""
    drawn = {p: streams.derive(name, p).random() for p in strata}
    return sorted(strata, key=lambda p: (strata[p].centre, strata[p].regimen_id, drawn[p], p))


def _every(ordered: Sequence[str], share: float) -> set[str]:
    """Take a share at equal distances; counts are rounded to the nearest whole, ties upwards."""
    return {
        p for k, p in enumerate(ordered) if int((k + 1) * share + 0.5 + 1e-9) > int(k * share + 0.5 + 1e-9)
    }


# ------------------------------------------------------------------ a whole cohort


def divide(
    patients: pd.DataFrame, settings: SplitSettings, external_centres: Collection[str] = ()
) -> Mapping[str, str]:
    """Divide 70 to 30 within each centre and regimen; whole centres may be kept as external sets.

    Parameters
    ----------
    patients : DataFrame
        Rows of ``patients.csv``, with ``patient_id``, ``centre`` and ``regimen_id``.
    settings : SplitSettings
        Shares and seed; the same patients and seed give the same division in whatever order they come.
    external_centres : collection of str
        Centres that no training sees; each becomes the split ``external-<centre>``.

    Returns
    -------
    mapping of patient to split

    Raises
    ------
    TrainingDataError
        A column is missing, a patient is there twice, an external centre has no patients, or too few are
        left to divide.
    """
    strata = _strata(patients)
    unknown = sorted(set(external_centres) - {s.centre for s in strata.values()})
    if unknown:
        raise TrainingDataError(f"no patient comes from the centre {unknown[0]}")
    inside = {p: s for p, s in strata.items() if s.centre not in external_centres}
    divided = split_patients(inside, settings)
    return {p: divided[p].value if p in divided else _external(s.centre) for p, s in strata.items()}


def _strata(patients: pd.DataFrame) -> dict[str, Stratum]:
    absent = [c for c in ("patient_id", "centre", "regimen_id") if c not in patients.columns]
    if absent:
        raise TrainingDataError(f"the patients lack the column {absent[0]}")
    rows: list[dict[Any, Any]] = (
        patients[["patient_id", "centre", "regimen_id"]].astype(str).to_dict("records")
    )
    found = {r["patient_id"]: Stratum(r["centre"], r["regimen_id"]) for r in rows}
    if len(found) < len(rows):
        raise TrainingDataError("a patient is there twice")
    return found


def _external(centre: str) -> str:
    return f"{EXTERNAL}-{re.sub('[^A-Za-z0-9_.-]', '_', centre)}"


def write_split(cohort: Cohort, settings: SplitSettings, external_centres: Collection[str] = ()) -> Cohort:
    """Divide a cohort anew: write ``split.csv``, seal the cohort and return it.

    Raises
    ------
    TrainingDataError
        As `divide`.
    """
    division = divide(cohort.patients, settings, external_centres)
    table = pd.DataFrame({"patient_id": list(division), "split": list(division.values())})
    table = table.sort_values("patient_id")
    table.to_csv(cohort.folder / SPLIT_FILE, index=False, lineterminator="\n")
    return sealed(cohort.folder, cohort.info)


def external_sets(cohort: Cohort) -> tuple[Cohort, ...]:
    """Return each external set of a cohort as a cohort of its own whose patients are all test patients.

    The digests are derived from that of the cohort: its training never saw these patients.
    """
    names = sorted({str(s) for s in cohort.patients["split"] if str(s).startswith(EXTERNAL)})
    return tuple(_as_test_set(cohort, name) for name in names)


def _as_test_set(cohort: Cohort, name: str) -> Cohort:
    patients = cohort.patients[cohort.patients["split"] == name].assign(split=Split.TEST.value)
    own = cohort.outcomes["patient_id"].isin(patients["patient_id"])
    changed = {
        "name": f"{cohort.info.name} {name.removeprefix(EXTERNAL).lstrip('-')}".strip(),
        "patients": len(patients),
        "sha256": hashlib.sha256(f"{cohort.info.sha256}\0{name}".encode()).hexdigest(),
    }
    return replace(
        cohort,
        info=cohort.info.model_copy(update=changed),
        patients=patients.reset_index(drop=True),
        outcomes=cohort.outcomes[own].reset_index(drop=True),
    )


# ------------------------------------------------------------------ cross-fitting


def part_of(text: str) -> tuple[int, int]:
    """Return which part of how many a text such as ``2/5`` names.

    Raises
    ------
    TrainingDataError
        It names none.
    """
    found = _PART.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise TrainingDataError(f"{text} is no part of a cohort; write 1/3, 2/3 and 3/3 for three parts")
    return int(found[1]), int(found[2])


def patients_of_part(cohort: Cohort, text: str) -> frozenset[str]:
    """Return the patients of one part of those that training uses, such as ``2/5``; parts do not overlap.

    Parts are alike in centre and regimen, and the same for everybody: no seed is asked.

    Raises
    ------
    TrainingDataError
        The text names no part.
    """
    number, parts = part_of(text)
    used = cohort.patients[cohort.patients["split"].isin([Split.TRAIN.value, Split.VALIDATION.value])]
    ordered = _ordered(_strata(used), RandomStreams(0), "parts")
    return frozenset(ordered[number - 1 :: parts])


def leaving_out(cohort: Cohort, text: str) -> Cohort:
    """Return a cohort whose training sees no patient of one part, such as ``2/5``; it says so of itself.

    Raises
    ------
    TrainingDataError
        The text names no part, or nobody is left to train on or to validate on.
    """
    hidden = patients_of_part(cohort, text)
    split = cohort.patients["split"].mask(cohort.patients["patient_id"].isin(hidden), LEFT_OUT)
    found = replace(cohort, patients=cohort.patients.assign(split=split), left_out=text)
    for needed in (Split.TRAIN, Split.VALIDATION):
        if not found.ids(needed):
            raise TrainingDataError(f"without the part {text} no {needed.value} patient is left")
    return found
