"""Survival rows from a prepared cohort, with image vectors from a file where there are any."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.case import ClinicalRecord
from inference.errors import TrainingDataError
from inference.models.survival.columns import clinical_columns, model_variables
from inference.models.survival.fitted import REGIMEN, Inputs
from inference.models.survival.laboratory import laboratory_tokens, laboratory_variables
from inference.models.survival.tokens import (
    ANGIOGRAPHY,
    LABORATORY,
    DatedTokens,
    angiogram_tokens,
    no_tokens,
)
from inference.training.cohort import Cohort, Split
from inference.training.cohort_evidence import NO_EVIDENCE, CohortEvidence, text_rows
from inference.training.cohort_rows import clinical_of
from inference.training.survival.rows import Followed, SurvivalRows

ENDPOINTS = ("os", "pfs")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """Image vectors of patients, in the order of the file.

    Attributes
    ----------
    patient_ids : tuple of str, (n,)
    images : DatedTokens
    kinds : tuple of str
        What `DatedTokens.kind` counts; a served model takes those that are values of
        `inference.models.evidence.ImageKind`.
    encoder : str
        SHA-256 of the bundle that made the vectors; a served model takes images of no other one, and none
        where it is empty.
    generators : tuple of str
        Name, version and SHA-256 of what drew the virtual images.
    """

    patient_ids: tuple[str, ...]
    images: DatedTokens
    kinds: tuple[str, ...]
    encoder: str = ""
    generators: tuple[str, ...] = ()


def write_image_file(path: Path, file: ImageFile) -> None:
    """Write image vectors as NPZ, without pickles."""
    np.savez_compressed(
        path,
        patient_id=np.array(file.patient_ids, dtype=np.str_),
        kinds=np.array(file.kinds, dtype=np.str_),
        features=file.images.features.astype(np.float32),
        kind=file.images.kind.astype(np.int16),
        months=file.images.months.astype(np.float32),
        known=file.images.known,
        encoder=np.array(file.encoder, dtype=np.str_),
        generators=np.array(file.generators, dtype=np.str_),
    )


def read_image_file(path: Path) -> ImageFile:
    """Read what `write_image_file` wrote.

    Raises
    ------
    TrainingDataError
        The file is absent or not of that kind.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            images = DatedTokens(
                features=stored["features"].astype(np.float32),
                kind=stored["kind"].astype(np.intp),
                months=stored["months"].astype(np.float64),
                known=stored["known"].astype(np.bool_),
            )
            ids = tuple(str(i) for i in stored["patient_id"])
            kinds = tuple(str(k) for k in stored["kinds"])
            encoder = str(stored["encoder"]) if "encoder" in stored.files else ""
            drawn_by = stored["generators"].tolist() if "generators" in stored.files else []
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingDataError(f"{path.name} is no file of image vectors") from error
    if images.known.shape != images.kind.shape or len(ids) != len(images.known):
        raise TrainingDataError(f"the parts of {path.name} are of different lengths")
    return ImageFile(ids, images, kinds, encoder, tuple(str(g) for g in drawn_by))


def rows_of_cohort(
    cohort: Cohort, file: ImageFile | None, evidence: CohortEvidence = NO_EVIDENCE
) -> SurvivalRows:
    """Return the patients of a cohort as survival rows; those without image vectors have none.

    Parameters
    ----------
    evidence : CohortEvidence
        Laboratory values over time, texts and angiographies; see
        `inference.training.cohort_evidence.read_evidence`.

    Raises
    ------
    TrainingDataError
        A column of an end point is absent, or no training patient has an event.
    """
    patients = cohort.patients
    absent = [f"{e}_{part}" for e in ENDPOINTS for part in ("months", "event")]
    absent = [column for column in absent if column not in patients]
    if absent:
        raise TrainingDataError(f"patients.csv of the cohort lacks the columns {', '.join(absent)}")
    rows = [{str(name): value for name, value in row.items()} for row in patients.to_dict("records")]
    records = [evidence.record(str(row["patient_id"]), clinical_of(row)) for row in rows]
    regimens = [None if pd.isna(r) else str(r) for r in patients["regimen_id"]]
    table = {**clinical_columns(records, model_variables()), REGIMEN: regimens}
    ids = tuple(str(i) for i in patients["patient_id"])
    images, kinds = (no_tokens(len(ids)), ()) if file is None else (_arranged(file, ids), file.kinds)
    split = patients["split"].astype(str).to_numpy()
    trained = [record for record, name in zip(records, split, strict=True) if name == Split.TRAIN.value]
    laboratory = laboratory_variables(trained)
    return SurvivalRows(
        inputs=Inputs(
            table, text_rows(evidence.texts, ids), images, _beside(records, ids, laboratory, evidence)
        ),
        image_kinds=kinds,
        outcomes={name: _followed(patients, name) for name in ENDPOINTS},
        split=split,
        laboratory=laboratory,
    )


def _beside(
    records: Sequence[ClinicalRecord],
    ids: Sequence[str],
    laboratory: Sequence[str],
    evidence: CohortEvidence,
) -> dict[str, DatedTokens]:
    found = {}
    if laboratory:
        found[LABORATORY] = laboratory_tokens(records, laboratory)
    runs = evidence.angiographies
    if runs.of:
        none = np.zeros((0, runs.width), dtype=np.float32)
        found[ANGIOGRAPHY] = angiogram_tokens([runs.of.get(i, none) for i in ids], runs.width)
    return found


def _followed(patients: pd.DataFrame, name: str) -> Followed:
    months = patients[f"{name}_months"].to_numpy(dtype=np.float64)
    event = patients[f"{name}_event"].fillna(0).to_numpy(dtype=np.float64) > 0
    return Followed(np.where(months >= 0, months, np.nan), event)


def _arranged(file: ImageFile, ids: tuple[str, ...]) -> DatedTokens:
    """Images in the order of `ids`; none for those that the file lacks."""
    position = {name: i for i, name in enumerate(file.patient_ids)}
    at = np.array([position.get(name, -1) for name in ids], dtype=np.intp)
    found = file.images.of(np.maximum(at, 0))
    return DatedTokens(found.features, found.kind, found.months, found.known & (at >= 0)[:, None])
