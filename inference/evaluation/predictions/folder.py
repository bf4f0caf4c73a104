"""A whole folder of predictions: reading with all checks, and writing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import ValidationError

from inference.errors import PredictionsError
from inference.evaluation.metrics import BoolArray
from inference.evaluation.predictions.models import (
    MODELS,
    ModelEntry,
    check_entries,
    read_models,
    write_models,
)
from inference.evaluation.predictions.patients import (
    OUTCOMES,
    RESPONSE,
    SURVIVAL_END_POINTS,
    TRAIN,
    Patients,
    read_patients,
)
from inference.evaluation.predictions.survival_file import SurvivalPrediction, places, read_survival
from inference.evaluation.predictions.tables import PATIENT, given_numbers, read_table, within
from inference.results import FloatArray
from inference.settings import Frozen

STUDY = "study.json"


class Study(Frozen):
    """What people say about the study.

    Attributes
    ----------
    title : str
    items : mapping of str to str
        Text for items of the reporting checklist, by number.
    """

    title: str = "Evaluation of predictions"
    items: dict[str, str] = {}


@dataclass(frozen=True, slots=True, eq=False)
class ModelPredictions:
    """One model and what it predicts.

    Attributes
    ----------
    survival : mapping of end point to SurvivalPrediction
    response : array, (n,), optional
        Probability of an objective response, NaN where not predicted.
    """

    entry: ModelEntry
    survival: Mapping[str, SurvivalPrediction] = field(default_factory=dict)
    response: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Patients, and the models that were asked about them.

    Attributes
    ----------
    digest : str
        sha256 over the files of the folder.
    """

    patients: Patients
    models: tuple[ModelPredictions, ...]
    study: Study
    digest: str

    def of(self, end_point: str) -> tuple[ModelPredictions, ...]:
        """Return the models that predict an end point."""
        return tuple(m for m in self.models if end_point in m.entry.end_points)


def file_name(model: str, end_point: str) -> str:
    """Return the name of one table."""
    return f"{model}.{end_point}.csv"


def read_predictions(folder: Path) -> Predictions:
    """Read a folder of predictions; its parts are told in `inference.evaluation.predictions`.

    Raises
    ------
    PredictionsError
        A file is missing, damaged or contradicts another, a patient to be measured is not predicted, a
        number is none, or survival is no survival. The message names the file and the row.
    """
    if not folder.is_dir():
        raise PredictionsError(f"there is no folder {folder.name}")
    patients, entries = read_patients(folder), read_models(folder)
    study = _read_study(folder)
    models = tuple(_read_model(folder, patients, entry) for entry in entries)
    return Predictions(patients, models, study, _digest(folder, entries))


def _read_study(folder: Path) -> Study:
    path = folder / STUDY
    if not path.is_file():
        return Study()
    try:
        return Study.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise PredictionsError(f"{STUDY}: {error.errors()[0]['msg']}") from error


def _read_model(folder: Path, patients: Patients, entry: ModelEntry) -> ModelPredictions:
    survival = {}
    response = None
    for end_point in entry.end_points:
        path = folder / file_name(entry.name, end_point)
        if end_point == RESPONSE:
            response = _read_response(path, patients)
            predicted, due = np.isfinite(response), np.isfinite(patients.response)
        else:
            survival[str(end_point)] = found = read_survival(path, patients.ids, end_point)
            predicted, due = found.predicted, at_risk(patients, end_point, entry.landmark_months)
        lacking = due & ~predicted & ~patients.in_split(TRAIN)
        if lacking.any():
            raise PredictionsError(
                f"{path.name} lacks {int(lacking.sum())} patients who must be measured, the first in row "
                f"{int(np.flatnonzero(lacking)[0]) + 2} of {OUTCOMES}"
            )
    return ModelPredictions(entry, survival, response)


def at_risk(patients: Patients, end_point: str, landmark_months: float) -> BoolArray:
    """Return whose follow-up is known and goes beyond a landmark, (n,); with no landmark all known."""
    outcome = patients.survival[end_point]
    if landmark_months == 0:
        return outcome.known
    return np.asarray(outcome.known & (np.nan_to_num(outcome.months) > landmark_months))


def _read_response(path: Path, patients: Patients) -> FloatArray:
    table = read_table(path, ("probability",))
    values = given_numbers(path, table, "probability")
    within(path, "probability", values, 0.0, 1.0)
    found = np.full(len(patients), np.nan)
    found[places(path, table, patients.ids)] = values
    return found


def _digest(folder: Path, entries: Sequence[ModelEntry]) -> str:
    names = [OUTCOMES, MODELS, STUDY, *(file_name(e.name, p) for e in entries for p in e.end_points)]
    digest = hashlib.sha256()
    for name in sorted(names):
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()


# ------------------------------------------------------------------ writing


def write_predictions(
    folder: Path, patients: Patients, models: Sequence[ModelPredictions], study: Study | None = None
) -> None:
    """Write a folder that `read_predictions` reads; patients whose risk is NaN get no row.

    Parameters
    ----------
    models : sequence of ModelPredictions
        Their arrays have one row for each of the patients.

    Raises
    ------
    PredictionsError
        Two models of one name, two references, or an end point without its prediction.
    """
    entries = tuple(m.entry for m in models)
    check_entries(entries)
    tables = {
        file_name(m.entry.name, p): _table(patients, m, str(p)) for m in models for p in m.entry.end_points
    }
    folder.mkdir(parents=True, exist_ok=True)
    _outcomes(patients).to_csv(folder / OUTCOMES, index=False, lineterminator="\n")
    for name, table in tables.items():
        table.to_csv(folder / name, index=False, lineterminator="\n")
    write_models(folder, entries)
    if study is not None:
        text = json.dumps(study.model_dump(), indent=1, ensure_ascii=False)
        (folder / STUDY).write_text(text + "\n", encoding="utf-8")


def _outcomes(patients: Patients) -> pd.DataFrame:
    columns: dict[str, object] = {
        PATIENT: patients.ids,
        "centre": patients.centre,
        "split": patients.split,
        "regimen": patients.regimen,
    }
    for name in SURVIVAL_END_POINTS:
        columns[f"{name}_months"] = patients.survival[name].months
        columns[f"{name}_event"] = _zeros_and_ones(patients.survival[name].event)
    columns[RESPONSE] = _zeros_and_ones(patients.response)
    named = pd.DataFrame(columns)
    return pd.concat([named, patients.covariates.reset_index(drop=True)], axis=1)


def _zeros_and_ones(values: FloatArray) -> list[str]:
    return [f"{v:.0f}" if np.isfinite(v) else "" for v in values]


def _table(patients: Patients, model: ModelPredictions, end_point: str) -> pd.DataFrame:
    if end_point == RESPONSE:
        if model.response is None:
            raise PredictionsError(f"{model.entry.name} has no prediction of {end_point}")
        whole = pd.DataFrame({PATIENT: patients.ids, "probability": model.response})
        return whole[np.isfinite(model.response)]
    if end_point not in model.survival:
        raise PredictionsError(f"{model.entry.name} has no prediction of {end_point}")
    found = model.survival[end_point]
    columns: dict[str, object] = {PATIENT: patients.ids, "risk": found.risk}
    for k, month in enumerate(found.months):
        columns[f"s@{month:g}"] = found.survival[:, k]
        for side, limits in (("lower", found.lower), ("upper", found.upper)):
            if np.isfinite(limits[found.predicted, k]).all():
                columns[f"s@{month:g}_{side}"] = limits[:, k]
    return pd.DataFrame(columns)[found.predicted]
