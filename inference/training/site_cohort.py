"""From a site's folder of DICOM studies and its table to a prepared cohort and a report on it."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from inference.errors import TrainingDataError
from inference.imaging.phase_evidence import PhaseReader
from inference.models.protocols import Progress, Segmenter, within
from inference.training.cohort import (
    OUTCOME_COLUMNS,
    PATIENT_COLUMNS,
    Cohort,
    CohortInfo,
    Origin,
    Split,
    write_tables,
)
from inference.training.cohort_evidence import CohortEvidence, write_evidence
from inference.training.cohort_split import SplitSettings, Stratum, split_patients
from inference.training.site_archive import Key, index_archive, match_studies
from inference.training.site_evidence import EvidenceOrder, collect_evidence
from inference.training.site_patient import (
    PatientTask,
    PreparedPatient,
    SiteSettings,
    prepare_patient,
)
from inference.training.site_pseudonyms import Pseudonyms
from inference.training.site_table import read_site_table

_log = logging.getLogger(__name__)

NOTE = (
    "Volumes, diameters and response were measured on each study's own grid. Follow-ups were registered to "
    "the baseline, rigid in and around lesions, so that their volumes are kept. Times are from the start of "
    "treatment. In MR the liver's median is 1000 at every time point."
)


@dataclass(frozen=True, slots=True)
class SiteOrder:
    """What a site hands in.

    Attributes
    ----------
    archive : folder of DICOM studies
    table : CSV, see `inference.training.site_table`
    out : folder of the cohort; must not hold one
    keys : from the table's patient keys to the patients of the files, or None when they are the same
    regimen_ids : regimens that the table may name
    segmenter : outlines liver and tumours; takes a segmentation in the study where it is told to
    reader : tells contrast phases from the images, or None to go by descriptions and times alone
    workers : processes; one patient at a time each
    evidence : laboratory values and reports of the patients, where the site gives them
    """

    archive: Path
    table: Path
    out: Path
    name: str
    pseudonyms: Pseudonyms
    keys: Mapping[str, Key] | None
    regimen_ids: tuple[str, ...]
    segmenter: Segmenter
    reader: PhaseReader | None = None
    workers: int = 1
    evidence: EvidenceOrder = EvidenceOrder()


@dataclass(frozen=True, slots=True)
class SiteResult:
    """A cohort and how it came about.

    Attributes
    ----------
    cohort : Cohort or None
        None when it was refused for want of patients.
    refusal : str
        Why, or an empty string.
    """

    cohort: Cohort | None
    prepared: tuple[PreparedPatient, ...]
    refusal: str = ""


def prepare_site_cohort(
    order: SiteOrder, settings: SiteSettings, splits: SplitSettings, progress: Progress
) -> SiteResult:
    """Prepare a cohort.

    Raises
    ------
    TableRefused
        The table, or its match with the folder, has problems; all of them are named.
    TrainingDataError
        There is a cohort in `out` already, or the table has too few patients from the start.
    """
    if (order.out / "cohort.json").exists() or (order.out / "images").exists():
        raise TrainingDataError("the output folder holds a cohort already; name another one")
    patients = read_site_table(order.table, order.regimen_ids)
    archive = index_archive(order.archive, within(progress, 0.0, 0.05))
    matched = match_studies(patients, archive, order.keys)
    tasks = [
        PatientTask(m, order.pseudonyms.of(*m.key), order.segmenter, settings, order.out, order.reader)
        for m in matched
    ]
    if len({t.patient_id for t in tasks}) < len(tasks):
        raise TrainingDataError("two patients of the table are the same patient in the files")
    if len(tasks) < splits.minimum_patients:
        raise TrainingDataError(
            f"the table has {len(tasks)} patients, and a cohort needs {splits.minimum_patients}"
        )
    named = [(t.patient_id, m) for t, m in zip(tasks, matched, strict=True)]
    evidence = collect_evidence(named, order.evidence, within(progress, 0.05, 0.1))
    prepared: list[PreparedPatient] = []
    for done in _prepared(tasks, order.workers):
        prepared.append(done)
        progress("patients", 0.1 + 0.9 * len(prepared) / len(tasks))
    try:
        return SiteResult(_sealed(order, settings, splits, prepared, evidence), tuple(prepared))
    except TrainingDataError as error:
        # The reasons for which patients were left out are needed now more than ever.
        return SiteResult(None, tuple(prepared), str(error))


def _prepared(tasks: Sequence[PatientTask], workers: int) -> Iterator[PreparedPatient]:
    """Prepare all patients; results come in the order of the tasks, however many processes work."""
    if workers <= 1:
        yield from map(prepare_patient, tasks)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(prepare_patient, tasks)


def _sealed(
    order: SiteOrder,
    settings: SiteSettings,
    splits: SplitSettings,
    prepared: Sequence[PreparedPatient],
    evidence: CohortEvidence,
) -> Cohort:
    rows = [dict(p.row) for p in prepared if p.row is not None]
    strata = {str(r["patient_id"]): Stratum(str(r["centre"]), str(r["regimen_id"])) for r in rows}
    division = split_patients(strata, splits)
    for row in rows:
        row["split"] = division[str(row["patient_id"])].value
    rows.sort(key=lambda r: str(r["patient_id"]))
    clinical = sorted({name for row in rows for name in row} - set(PATIENT_COLUMNS))
    patients = pd.DataFrame(rows, columns=[*PATIENT_COLUMNS, *clinical])
    outcomes = pd.DataFrame(
        [o for p in sorted(prepared, key=lambda p: p.patient_id) for o in p.outcomes],
        columns=list(OUTCOME_COLUMNS),
    )
    for name in ("os_event", "pfs_event"):
        patients[name] = patients[name].astype("Int64")
    info = CohortInfo(
        name=order.name,
        origin=Origin.REAL,
        modality=settings.modality,
        phases=tuple(p.value for p in settings.phases),
        patients=len(rows),
        seed=splits.seed,
        note=NOTE,
    )
    write_evidence(order.out, evidence.of(patients["patient_id"]))
    cohort = write_tables(order.out, info, patients, outcomes)
    counts = {s.value: len(cohort.ids(s)) for s in Split}
    _log.info("%d patients of %d: %s", len(rows), len(prepared), counts)
    return cohort
