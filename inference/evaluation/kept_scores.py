"""Scores of patients that were evaluated already, so that an evaluation of hours can be stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from inference.errors import TrainingDataError
from inference.evaluation.patient_scores import Answer, PatientScores
from inference.evaluation.scoring import Scores

_TRUE = "true"


def write_patient(path: Path, scores: PatientScores) -> None:
    """Write the scores of one patient, all or nothing."""
    stated = {
        "logistic": scores.logistic,
        "truth_score": scores.truth_score,
        "class_on_map": scores.class_on_map,
        "death": scores.death,
        "answers": {
            name: {"scores": asdict(a.scores), "refused": a.refused} for name, a in scores.answers.items()
        },
    }
    slices = {f"of {name}": a.slices for name, a in scores.answers.items() if a.slices is not None}
    if scores.slices is not None:
        slices[_TRUE] = scores.slices
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez_compressed(file, stated=np.array(json.dumps(stated)), **slices)  # type: ignore[arg-type]
    temporary.replace(path)


def read_patient(path: Path) -> PatientScores:
    """Read what `write_patient` wrote.

    Raises
    ------
    TrainingDataError
        The file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stated = json.loads(str(file["stated"]))
            slices = {name: file[name] for name in file.files if name != "stated"}
        answers = {
            name: Answer(Scores(**a["scores"]), slices.get(f"of {name}"), a["refused"])
            for name, a in stated["answers"].items()
        }
        return PatientScores(
            stated["logistic"],
            stated["truth_score"],
            stated["class_on_map"],
            stated["death"],
            answers,
            slices.get(_TRUE),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingDataError(f"the kept scores {path.name} are damaged; remove the file") from error
