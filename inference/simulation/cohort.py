"""A simulated cohort on disk: prepared for training, or as DICOM studies.

Patients are made one at a time in processes of their own, and each leaves its images and its rows behind,
so that an interrupted run is taken up where it stopped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from inference.errors import TrainingDataError
from inference.simulation.cohort_dicom import COLUMNS, StudyGrid, write_studies
from inference.simulation.cohort_patient import (
    PHASES,
    Acquisition,
    Kind,
    Request,
    images,
    outcome_rows,
    patient_row,
    simulate,
)
from inference.simulation.parameters import SHIFTED, load_parameters
from inference.training.cohort import Cohort, CohortInfo, write_images, write_tables

Progress = Callable[[str, float], None]

__all__ = ["Kind", "Request", "write_cohort", "write_patient"]


def write_patient(number: int, request: Request, folder: Path, acquisition: Acquisition | None = None) -> str:
    """Simulate one patient and write its images and rows; does nothing when they are there.

    The rows are written last: a patient without them is made again, with the same bytes.

    Parameters
    ----------
    acquisition : Acquisition, optional
        Where the disease lies, as in `cohort_patient.simulate`.
    """
    rows = folder / "parts" / f"{number:05d}.json"
    if rows.exists():
        return rows.name
    parameters = load_parameters(SHIFTED if request.shifted else None)
    patient = simulate(number, request, parameters, acquisition)
    regimens = {r.id: r for r in request.regimens}
    row = patient_row(patient, regimens)
    part: dict[str, object] = {"patient": row, "outcomes": outcome_rows(patient)}
    if request.kind is Kind.COHORT:
        write_images(folder, images(patient))
    else:
        part["studies"] = write_studies(patient, row, request, folder, StudyGrid())
    rows.parent.mkdir(parents=True, exist_ok=True)
    temporary = rows.with_suffix(".part")
    temporary.write_text(json.dumps(part), encoding="utf-8")
    temporary.replace(rows)
    return rows.name


def write_cohort(
    request: Request,
    patients: int,
    folder: Path,
    workers: int,
    progress: Progress,
    acquisition: Acquisition | None = None,
) -> Cohort:
    """Simulate a cohort into a folder, or finish one that was begun there.

    Parameters
    ----------
    acquisition : Acquisition, optional
        Where the disease lies, as in `cohort_patient.simulate`; it goes to other processes.

    Raises
    ------
    TrainingDataError
        The folder holds patients of another request.
    """
    _claim(request, folder)
    waiting = [n for n in range(patients) if not (folder / "parts" / f"{n:05d}.json").exists()]
    done = patients - len(waiting)
    write = partial(write_patient, request=request, folder=folder, acquisition=acquisition)
    for _ in _finished(waiting, write, workers):
        done += 1
        progress(f"{done} of {patients} patients", done / patients)
    parts = [
        json.loads((folder / "parts" / f"{n:05d}.json").read_text(encoding="utf-8")) for n in range(patients)
    ]
    table = pd.DataFrame([p["patient"] for p in parts])
    outcomes = pd.DataFrame([row for p in parts for row in p["outcomes"]])
    info = CohortInfo(
        name=request.name,
        origin=request.origin,
        modality=request.modality,
        phases=tuple(p.value for p in PHASES[request.modality]),
        patients=patients,
        seed=request.seed,
        note=f"parameters {request.parameters_sha256[:16]}",
    )
    if request.kind is Kind.DICOM:
        _write_studies_table(folder, [row for p in parts for row in p["studies"]])
    return write_tables(folder, info, table, outcomes)


def _write_studies_table(folder: Path, rows: Sequence[dict[str, object]]) -> None:
    with (folder / "studies.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _finished(waiting: Sequence[int], write: Callable[[int], str], workers: int) -> Iterator[str]:
    if workers <= 1:
        yield from map(write, waiting)
        return
    with ProcessPoolExecutor(max_workers=workers) as pool:
        jobs = [pool.submit(write, n) for n in waiting]
        for job in as_completed(jobs):
            yield job.result()


def _claim(request: Request, folder: Path) -> None:
    """Write down what the folder holds, or see that it holds the same."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "request.json"
    if path.exists():
        if not _is_of(request, path.read_text(encoding="utf-8")):
            raise TrainingDataError(
                f"{folder.name} holds patients of another seed, modality, set of parameters or anatomy; "
                "choose another folder"
            )
        return
    path.write_text(request.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _is_of(request: Request, stored: str) -> bool:
    try:
        return type(request).model_validate_json(stored) == request
    except ValidationError:
        return False
