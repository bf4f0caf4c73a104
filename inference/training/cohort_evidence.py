"""What a cohort holds beside tables and images: dated laboratory values, texts, angiographies.

All three files may be absent, and so may any patient in them:

    laboratory.csv        one row a value: patient_id, days, variable, value
    texts.npz             vectors of reports and operation notes, and the name of their encoder
    angiographies.npz     vectors of angiographies, and the name of their encoder

`days` count from the day of the baseline study, below 0 before it; `variable` and the unit of `value` are
those of `inference.clinical.variables`. No word and no pixel is kept, only vectors. Values after the day of
the study may stand in the file, and are never given to a model.
"""

from __future__ import annotations

import math
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from inference.case import ClinicalRecord, DatedValue
from inference.clinical.longitudinal import is_laboratory, one_a_day, with_last_values
from inference.errors import ClinicalError, TrainingDataError
from inference.training.cohort import BESIDE

LABORATORY_FILE, TEXTS_FILE, ANGIOGRAPHIES_FILE = BESIDE
_COLUMNS = ("patient_id", "days", "variable", "value")

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class PatientVectors:
    """Vectors of patients by one encoder.

    Attributes
    ----------
    encoder : str
        Its name; empty where nobody has a vector.
    of : mapping
        Patient -> vectors, (count, width).
    """

    encoder: str = ""
    of: Mapping[str, Vectors] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Length of a vector, 0 where nobody has one."""
        return next((v.shape[1] for v in self.of.values()), 0)

    def among(self, patients: Collection[str]) -> PatientVectors:
        """Return the vectors of some patients."""
        return replace(self, of={patient: v for patient, v in self.of.items() if patient in patients})


@dataclass(frozen=True, slots=True)
class CohortEvidence:
    """Evidence of the patients of a cohort.

    Attributes
    ----------
    dated : mapping
        Patient -> laboratory values, day 0 the day of the baseline study.
    """

    dated: Mapping[str, tuple[DatedValue, ...]] = field(default_factory=dict)
    texts: PatientVectors = PatientVectors()
    angiographies: PatientVectors = PatientVectors()

    def record(self, patient_id: str, record: ClinicalRecord) -> ClinicalRecord:
        """Return a patient's record with dated values; the last ones fill what the record lacks."""
        return with_last_values(replace(record, dated=self.dated.get(patient_id, ())))

    def of(self, patients: Iterable[str]) -> CohortEvidence:
        """Return the evidence of some patients."""
        kept = frozenset(patients)
        return CohortEvidence(
            {patient: values for patient, values in self.dated.items() if patient in kept},
            self.texts.among(kept),
            self.angiographies.among(kept),
        )


NO_EVIDENCE = CohortEvidence()


def read_evidence(folder: Path) -> CohortEvidence:
    """Read what a cohort's folder holds; files that are absent hold nothing.

    Raises
    ------
    TrainingDataError
        A file is damaged, or a row of the laboratory values is refused.
    """
    return CohortEvidence(
        _read_laboratory(folder / LABORATORY_FILE),
        _read_vectors(folder / TEXTS_FILE),
        _read_vectors(folder / ANGIOGRAPHIES_FILE),
    )


def write_evidence(folder: Path, evidence: CohortEvidence) -> None:
    """Write the files of what there is; the same evidence gives the same bytes of numbers."""
    if evidence.dated:
        rows = [
            {"patient_id": patient, "days": v.days, "variable": v.name, "value": v.value}
            for patient in sorted(evidence.dated)
            for v in evidence.dated[patient]
        ]
        table = pd.DataFrame(rows, columns=list(_COLUMNS))
        table.to_csv(folder / LABORATORY_FILE, index=False, lineterminator="\n")
    for name, vectors in ((TEXTS_FILE, evidence.texts), (ANGIOGRAPHIES_FILE, evidence.angiographies)):
        if vectors.of:
            _write_vectors(folder / name, vectors)


def _read_laboratory(path: Path) -> dict[str, tuple[DatedValue, ...]]:
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path, dtype={"patient_id": str, "variable": str}, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise TrainingDataError(f"{path.name} of the cohort cannot be read as CSV") from error
    absent = [c for c in _COLUMNS if c not in table]
    if absent:
        raise TrainingDataError(f"{path.name} of the cohort lacks the column {absent[0]}")
    found: dict[str, list[DatedValue]] = defaultdict(list)
    columns = (table[c].tolist() for c in _COLUMNS)
    for number, (patient, days, variable, value) in enumerate(zip(*columns, strict=True), start=2):
        found[str(patient)].append(_dated(f"{path.name}, row {number}", days, variable, value))
    try:
        return {patient: one_a_day(values, path.name) for patient, values in found.items()}
    except ClinicalError as error:
        raise TrainingDataError(str(error)) from error


def _dated(where: str, days: object, variable: object, value: object) -> DatedValue:
    name = str(variable)
    if not is_laboratory(name):
        raise TrainingDataError(f"{where}: '{name}' is no laboratory value")
    try:
        day, number = float(str(days)), float(str(value))
    except ValueError as error:
        raise TrainingDataError(f"{where}: days and value must be numbers") from error
    if not day.is_integer() or not math.isfinite(number):
        raise TrainingDataError(f"{where}: days must be a whole number, and value a finite one")
    return DatedValue(name, int(day), number)


def _write_vectors(path: Path, vectors: PatientVectors) -> None:
    ids = [patient for patient in sorted(vectors.of) for _ in vectors.of[patient]]
    np.savez_compressed(
        path,
        patient_id=np.array(ids, dtype=np.str_),
        vectors=np.concatenate([vectors.of[patient] for patient in sorted(vectors.of)]).astype(np.float32),
        encoder=np.array(vectors.encoder, dtype=np.str_),
    )


def _read_vectors(path: Path) -> PatientVectors:
    if not path.is_file():
        return PatientVectors()
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids, vectors = [str(i) for i in stored["patient_id"]], stored["vectors"].astype(np.float32)
            encoder = str(stored["encoder"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingDataError(f"{path.name} of the cohort cannot be read") from error
    if vectors.ndim != 2 or len(ids) != len(vectors) or not np.isfinite(vectors).all() or not encoder:
        raise TrainingDataError(f"{path.name} of the cohort does not hold a named encoder's finite vectors")
    places: dict[str, list[int]] = defaultdict(list)
    for place, patient in enumerate(ids):
        places[patient].append(place)
    return PatientVectors(encoder, {patient: vectors[at] for patient, at in places.items()})


def text_rows(texts: PatientVectors, ids: Sequence[str]) -> Vectors:
    """Return the mean text vector of each patient, (n, width), NaN where there is none."""
    found = np.full((len(ids), texts.width), np.nan, dtype=np.float32)
    for place, patient in enumerate(ids):
        if patient in texts.of:
            found[place] = texts.of[patient].astype(np.float64).mean(axis=0)
    return found
