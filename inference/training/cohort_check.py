"""Whether a prepared cohort is what it says: digest, tables, shapes and ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inference.clinical.variables import VARIABLES, Kind
from inference.errors import TrainingDataError
from inference.models.protocols import Progress
from inference.results import Labels, ResponseCategory
from inference.training.cohort import (
    BESIDE,
    CROP,
    EXTERNAL,
    NO_VALUE,
    PATIENT_COLUMNS,
    Cohort,
    HalfPrecision,
    PatientImages,
    Split,
    cohort_digest,
)
from inference.training.cohort_evidence import read_evidence
from inference.training.crop_volumes import tissue_ml

CT_RANGE = (-1200, 4000)
"""HU; metal goes beyond the scanner's usual 3071."""
MR_RANGE = (0, 32767)
_FULL = 258
"""Largest sum of the three shares of a voxel: 255 and what rounding adds."""
_VOLUME_WITHIN, _SMALL_ML = 0.15, 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and with whom (a pseudonym, or a table)."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """What a cohort holds, and what is wrong with it."""

    name: str
    origin: str
    modality: str
    phases: tuple[str, ...]
    patients: int
    follow_ups: int
    by_split: dict[str, int]
    by_regimen: dict[str, int]
    by_centre: dict[str, int]
    deaths: int
    progressions: int
    recist11: dict[str, int]
    findings: tuple[Finding, ...]


def check_cohort(folder: Path, progress: Progress) -> CohortSummary:
    """Read all of a cohort and check it.

    Raises
    ------
    TrainingDataError
        The tables cannot be read at all.
    """
    cohort = Cohort.open(folder)
    findings = [*_digest(cohort), *_patients(cohort), *_clinical(cohort.patients), *_outcomes(cohort)]
    findings += _evidence(cohort)
    for index, patient_id in enumerate(cohort.patients["patient_id"], start=1):
        findings += _images(cohort, patient_id)
        progress("images", index / len(cohort.patients))
    patients, seen = cohort.patients, cohort.outcomes[cohort.outcomes["observed"] == 1]
    return CohortSummary(
        name=cohort.info.name,
        origin=cohort.info.origin.value,
        modality=cohort.info.modality,
        phases=cohort.info.phases,
        patients=len(patients),
        follow_ups=int((cohort.outcomes["imaged"] == 1).sum()),
        by_split=_counts(patients["split"]),
        by_regimen=_counts(patients["regimen_id"]),
        by_centre=_counts(patients["centre"]),
        deaths=int((patients["os_event"] == 1).sum()),
        progressions=int((patients["pfs_event"] == 1).sum()),
        recist11=_counts(seen["recist11"]),
        findings=tuple(findings),
    )


def _counts(column: pd.Series[Any]) -> dict[str, int]:
    return {str(k): int(v) for k, v in sorted(column.value_counts().items())}


def _evidence(cohort: Cohort) -> Iterator[Finding]:
    try:
        evidence = read_evidence(cohort.folder)
    except TrainingDataError as error:
        yield Finding("evidence", str(error))
        return
    known = set(cohort.patients["patient_id"])
    for name, found in zip(
        BESIDE, (evidence.dated, evidence.texts.of, evidence.angiographies.of), strict=True
    ):
        strange = len(set(found) - known)
        if strange:
            yield Finding(name, f"{strange} patients are not in patients.csv")


def _digest(cohort: Cohort) -> Iterator[Finding]:
    if not cohort.info.sha256:
        yield Finding("cohort.json", "the cohort was never sealed with a digest")
    elif cohort_digest(cohort.folder) != cohort.info.sha256:
        yield Finding("cohort.json", "the digest is another one: tables or images were changed")


def _patients(cohort: Cohort) -> Iterator[Finding]:
    table = cohort.patients
    if len(table) != cohort.info.patients:
        yield Finding("patients.csv", f"{len(table)} patients instead of {cohort.info.patients}")
    twice = table["patient_id"][table["patient_id"].duplicated()]
    for patient_id in sorted(set(twice)):
        yield Finding(str(patient_id), "is in patients.csv twice")
    words = {s.value for s in Split}
    external = table["split"].astype(str).str.startswith(EXTERNAL)
    for row in table[~table["split"].isin(words) & ~external].itertuples():
        yield Finding(str(row.patient_id), "its split is none of train, validation, test and external")
    for split in sorted(words - set(table["split"])):
        yield Finding("patients.csv", f"no patient is in the split {split}")
    for name in ("baseline_viable_ml", "baseline_total_ml", "liver_ml"):
        for row in table[~(table[name] >= 0)].itertuples():
            yield Finding(str(row.patient_id), f"{name} is missing or negative")
    for end in ("os", "pfs"):
        months, event = table[f"{end}_months"], table[f"{end}_event"]
        wrong = (months.isna() != event.isna()) | (months < 0) | ~(event.isna() | event.isin([0, 1]))
        for row in table[wrong].itertuples():
            yield Finding(str(row.patient_id), f"{end}_months and {end}_event do not fit together")


def _clinical(table: pd.DataFrame) -> Iterator[Finding]:
    for name in table.columns:
        variable = VARIABLES.get(name)
        if variable is None:
            if name not in PATIENT_COLUMNS and not name.startswith("latent_"):
                yield Finding("patients.csv", f"the column {name} is no clinical variable")
            continue
        given = table[table[name].notna()]
        if variable.kind is Kind.NUMBER:
            numbers = pd.to_numeric(given[name], errors="coerce")
            wrong = given[~numbers.between(variable.low, variable.high)]
        elif variable.kind is Kind.CATEGORY:
            wrong = given[~given[name].astype(str).isin(variable.categories)]
        else:
            wrong = given[
                ~given[name]
                .astype(str)
                .str.lower()
                .isin(["yes", "no", "true", "false", "0", "1", "0.0", "1.0"])
            ]
        for row in wrong.itertuples():
            yield Finding(str(row.patient_id), f"{name} is outside what the variable may be")


def _outcomes(cohort: Cohort) -> Iterator[Finding]:
    table = cohort.outcomes
    known = set(cohort.patients["patient_id"])
    for patient_id in sorted(set(table["patient_id"]) - known):
        yield Finding(str(patient_id), "is in outcomes.csv and not in patients.csv")
    for name in ("viable_ml", "necrosis_ml", "lipiodol_ml", "new_lesions"):
        for row in table[~(table[name] >= 0)].itertuples():
            yield Finding(str(row.patient_id), f"{name} is missing or negative")
    for row in table[~(table["months"] > 0)].itertuples():
        yield Finding(str(row.patient_id), "an outcome is not after the start of treatment")
    words = {c.value for c in ResponseCategory}
    for name in ("recist11", "mrecist"):
        for row in table[~table[name].isin(words)].itertuples():
            yield Finding(str(row.patient_id), f"{name} is none of CR, PR, SD, PD and NE")
    keys = ["patient_id", "regimen_id", "months"]
    for row in table[table.duplicated(keys)].itertuples():
        yield Finding(str(row.patient_id), "an outcome is in outcomes.csv twice")


# ------------------------------------------------------------------ images


def _images(cohort: Cohort, patient_id: str) -> Iterator[Finding]:
    try:
        images = cohort.images(patient_id)
    except TrainingDataError as error:
        yield Finding(patient_id, str(error))
        return
    shapes = _shapes(cohort, images)
    yield from (Finding(patient_id, text) for text in shapes)
    if shapes:
        return
    yield from (Finding(patient_id, text) for text in _arrays(cohort, images))
    yield from (Finding(patient_id, text) for text in _against_tables(cohort, images))


def _shapes(cohort: Cohort, images: PatientImages) -> list[str]:
    phases = (len(cohort.info.phases), *CROP)
    signals = [images.images, *(f.images for f in images.follow_ups)]
    if images.clean is not None:
        signals.append(images.clean)
    labels = [images.liver, images.lesion, *(f.lesion for f in images.follow_ups)]
    shares = [images.fractions, *(f.fractions for f in images.follow_ups)]
    wrong: set[str] = set()
    for arrays, shape, kind in (
        (signals, phases, np.int16),
        (labels, CROP, np.uint8),
        (shares, (3, *CROP), np.uint8),
    ):
        wrong |= {f"an array is {a.shape} instead of {shape}" for a in arrays if a.shape != shape}
        wrong |= {f"an array is {a.dtype} instead of {np.dtype(kind)}" for a in arrays if a.dtype != kind}
    return sorted(wrong)


def _arrays(cohort: Cohort, images: PatientImages) -> Iterator[str]:
    if not images.liver.any():
        yield "there is no liver in the crop"
    if not images.lesion.any():
        yield "there is no tumour in the crop at baseline"
    low, high = CT_RANGE if cohort.info.modality == "CT" else MR_RANGE
    times = [("baseline", images.images, images.fractions, images.lesion)]
    times += [(f"month {f.months:g}", f.images, f.fractions, f.lesion) for f in images.follow_ups]
    for name, image, fractions, lesion in times:
        seen = image[image != NO_VALUE]
        if not seen.size:
            yield f"{name}: no phase was acquired"
        elif seen.min() < low or seen.max() > high:
            yield f"{name}: values from {seen.min()} to {seen.max()} lie outside {low} to {high}"
        yield from _shares(name, fractions, lesion)


def _shares(name: str, fractions: Labels, lesion: Labels) -> Iterator[str]:
    total = fractions.sum(axis=0, dtype=np.int32)
    if total.max() > _FULL:
        yield f"{name}: the shares of a voxel add up to more than all of it"
    if ((total > 0) & (lesion == 0)).any():
        yield f"{name}: tumour that belongs to no lesion"


def _against_tables(cohort: Cohort, images: PatientImages) -> Iterator[str]:
    outcomes = cohort.outcomes
    rows = outcomes[(outcomes["patient_id"] == images.patient_id) & (outcomes["imaged"] == 1)]
    listed = sorted((str(r.regimen_id), round(float(str(r.months)), 3)) for r in rows.itertuples())
    there = sorted((f.regimen_id, round(f.months, 3)) for f in images.follow_ups)
    if listed != there:
        yield "the follow-ups of outcomes.csv are not those of the images"
    row = cohort.patients[cohort.patients["patient_id"] == images.patient_id].iloc[0]
    yield from _volume("baseline_total_ml", float(row["baseline_total_ml"]), images.fractions)
    by_time = {(f.regimen_id, round(f.months, 3)): f.fractions for f in images.follow_ups}
    for outcome in rows.to_dict("records"):
        fractions = by_time.get((str(outcome["regimen_id"]), round(float(outcome["months"]), 3)))
        if fractions is not None:
            total = sum(float(outcome[f"{part}_ml"]) for part in ("viable", "necrosis", "lipiodol"))
            yield from _volume(f"tumour at month {outcome['months']:g}", total, fractions)


def _volume(name: str, said_ml: float, fractions: Labels | HalfPrecision) -> Iterator[str]:
    found = float(tissue_ml(np.asarray(fractions, dtype=np.uint8)).sum())
    if not math.isclose(found, said_ml, rel_tol=_VOLUME_WITHIN, abs_tol=_SMALL_ML):
        yield f"{name} is {said_ml:.1f} ml in the table and {found:.1f} ml in the images"
