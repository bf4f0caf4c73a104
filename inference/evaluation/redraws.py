"""The simulator's own oracle: follow-ups of a simulated cohort's test patients, drawn again.

The patient, the tumours and the treatment stay; what nothing observable carries is drawn anew: the luck of
the patient and of each tumour, and the arrival of new lesions. The spread of these draws is what no
forecaster can know. They are written as ``redraws.csv`` beside the tables of the cohort, where
`inference.evaluation.adapters.Redraws` reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inference.errors import TrainingDataError
from inference.evaluation.adapters import REDRAW_COLUMNS, REDRAWS
from inference.models.protocols import Progress
from inference.randomness import RandomStreams
from inference.simulation.cohort_patient import (
    Acquisition,
    Request,
    SimulatedPatient,
    outcome_rows,
    simulate,
)
from inference.simulation.course import Course
from inference.simulation.implanted_cohort import acquisition_of, read_request
from inference.simulation.parameters import SHIFTED, load_parameters, parameters_digest
from inference.simulation.tumours import Disease
from inference.training.cohort import Cohort, Split

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    """One patient, and the regimens under which it is drawn again."""

    number: int
    patient_id: str
    regimen_ids: tuple[str, ...]
    request: Request
    draws: int
    acquisition: Acquisition | None = None


def write_redraws(folder: Path, draws: int, workers: int, progress: Progress) -> Path:
    """Draw the imaged regimens of all test patients again, at every month; returns the table.

    Raises
    ------
    TrainingDataError
        It is no simulated cohort, was simulated with other parameters than those of this program, or is
        not what the simulator makes of its request.
    """
    cohort, request = Cohort.open(folder), _request(folder)
    tasks = _tasks(cohort, request, draws)
    known = cohort.patients.set_index("patient_id")["baseline_viable_ml"]
    rows: list[dict[str, Any]] = []
    for count, (task, found) in enumerate(zip(tasks, _all_drawn(tasks, workers), strict=True), 1):
        if not np.isclose(found.baseline_viable_ml, float(known[task.patient_id]), atol=0.01):
            raise TrainingDataError(
                "the cohort is not what this version of the simulator makes of its request"
            )
        rows += found.rows
        progress(f"patient {count} of {len(tasks)}", count / len(tasks))
    path = folder / REDRAWS
    temporary = path.with_suffix(".part")
    pd.DataFrame(rows, columns=list(REDRAW_COLUMNS)).to_csv(temporary, index=False, lineterminator="\n")
    temporary.replace(path)
    _log.info("%d patients were drawn again %d times", len(tasks), draws)
    return path


def _request(folder: Path) -> Request:
    try:
        request = read_request((folder / "request.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingDataError(f"{folder.name} is no cohort of the simulator") from error
    if request.parameters_sha256 != parameters_digest():
        raise TrainingDataError(
            f"{folder.name} was simulated with other parameters than those of this program"
        )
    return request


def _tasks(cohort: Cohort, request: Request, draws: int) -> list[_Task]:
    imaged = cohort.outcomes[cohort.outcomes["imaged"] == 1]
    acquisition = acquisition_of(request, cohort.folder)
    found = []
    for patient_id in cohort.ids(Split.TEST):
        regimens = sorted(set(imaged.loc[imaged["patient_id"] == patient_id, "regimen_id"].astype(str)))
        found.append(_Task(int(patient_id[1:]), patient_id, tuple(regimens), request, draws, acquisition))
    return found


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Rows of one patient, and what its baseline was, to see that it is the same patient."""

    rows: list[dict[str, Any]]
    baseline_viable_ml: float


def _all_drawn(tasks: Sequence[_Task], workers: int) -> Iterator[_Drawn]:
    if workers <= 1:
        yield from map(_drawn, tasks)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_drawn, tasks)


def _drawn(task: _Task) -> _Drawn:
    parameters = load_parameters(SHIFTED if task.request.shifted else None)
    patient = simulate(task.number, task.request, parameters, task.acquisition)
    rows = [row for draw in range(task.draws) for row in _again(patient, task, draw)]
    return _Drawn(rows, patient.baseline.viable_ml)


def _again(patient: SimulatedPatient, task: _Task, draw: int) -> Iterator[dict[str, Any]]:
    seed = RandomStreams(task.request.seed).derive("redraw", task.number, draw).integers(2**62)
    streams = RandomStreams(int(seed))
    disease = other_luck(patient.course.disease, streams.derive("tumours"))
    course = Course(patient.person, disease, patient.course.parameters, streams)
    regimens = [r for r in task.request.regimens if r.id in task.regimen_ids]
    redrawn = replace(patient, course=course, courses={r.id: course.follow(r) for r in regimens})
    for row in outcome_rows(redrawn):
        yield {name: row[name] for name in REDRAW_COLUMNS if name != "draw"} | {"draw": draw}


def other_luck(disease: Disease, rng: np.random.Generator) -> Disease:
    """Return the same tumours with other luck, and new lesions that arrive at other times."""
    arrivals = np.cumsum(rng.exponential(1.0, len(disease.seeds))).tolist()
    return replace(
        disease,
        lesions=tuple(replace(x, luck=float(rng.standard_normal())) for x in disease.lesions),
        seeds=tuple(replace(s, threshold=at) for s, at in zip(disease.seeds, arrivals, strict=True)),
    )
