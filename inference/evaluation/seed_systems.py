"""Predictions of the systems of published studies, as a folder that one evaluation measures for all.

A system is a bundle that ``hepatocast train NAME`` wrote. Here it is asked about the patients of a cohort
that no training saw, and what it says becomes a folder of predictions (`inference.evaluation.predictions`),
so that figures, intervals and the report come from the same place as those of any other model.

A system is added by one line in `SYSTEMS`. Its function has the form of `Predict`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.bundle_store import BundleDescription, BundleKind, describe
from inference.clinical.variables import VARIABLES
from inference.errors import ModelError
from inference.evaluation.predictions.folder import ModelPredictions, Study, write_predictions
from inference.evaluation.predictions.patients import SURVIVAL_END_POINTS, Patients, TimeToEvent
from inference.models.protocols import Progress
from inference.training.cohort import Cohort, Split
from inference.training.seed_systems.outcomes import follow_up, objective_response, treated_with

Predict = Callable[[BundleDescription, Cohort, Patients, Progress], tuple[ModelPredictions, ...]]
"""Says what a system predicts: bundle, the cohort to read images and values from, and the patients, in
whose order all arrays are; at least those who are not training patients are predicted."""


@dataclass(frozen=True, slots=True)
class SeedSystem:
    """A system of a published study.

    Attributes
    ----------
    title : str
        For people.
    format : str
        Format of its bundles.
    predict : str
        A `Predict` as ``module:name``; it is imported when it is needed.
    regimens : str
        Key of the bundle's metadata that lists whom the system is measured on; none where it is absent.
    trained_as : str
        Name of the system that is trained, where this is one part of what it predicts.
    """

    title: str
    format: str
    predict: str
    regimens: str = "regimens"
    trained_as: str = ""


SYSTEMS: Mapping[str, SeedSystem] = {
    "resnet50-mlp": SeedSystem(
        "ResNet50 + MLP: response, and Cox nomogram of progression-free survival",
        "resnet50_mlp",
        "inference.training.seed_systems.resnet50_predictions:predict",
    ),
    "dlop-combin": SeedSystem(
        "DLOP_Combin: survival by year after a landmark, with four comparators",
        "dlop_combin",
        "inference.training.seed_systems.dlop_predictions:predict",
    ),
    "delicaite": SeedSystem(
        "DELICAITE: progression after TACE or HAIC",
        "delicaite",
        "inference.training.seed_systems.delicaite_predictions:predict",
    ),
    "selection": SeedSystem(
        "SELECTION: objective response after TACE or HAIC, with three comparators",
        "selection",
        "inference.training.seed_systems.cohort_predictions:predict_response",
        regimens="response_regimens",
    ),
    "selection-survival": SeedSystem(
        "SELECTION: survival after the landmark by the score of each cohort, with three comparators",
        "selection",
        "inference.training.seed_systems.cohort_predictions:predict_survival",
        trained_as="selection",
    ),
}
"""Systems that ``hepatocast evaluate --model NAME`` knows, by name."""


def cohort_patients(cohort: Cohort, regimens: Collection[str] = ()) -> Patients:
    """Return the patients of a cohort who had one of the regimens as an evaluation takes them; all if none.

    Response is the best one under the treatment that a patient had, by mRECIST.

    Raises
    ------
    TrainingDataError
        Nobody had one of the regimens.
    """
    ids = treated_with(cohort, regimens, *Split)
    table = cohort.patients.set_index("patient_id").loc[list(ids)].reset_index()
    names = [name for name in VARIABLES if name in table.columns and table[name].notna().any()]
    return Patients(
        ids=ids,
        centre=_words(table["centre"]),
        split=_words(table["split"]),
        regimen=_words(table["regimen_id"]),
        survival={end: TimeToEvent(*follow_up(cohort, ids, end)) for end in SURVIVAL_END_POINTS},
        response=objective_response(cohort, ids),
        covariates=pd.DataFrame(table[names]),
    )


def _words(column: pd.Series[str]) -> np.ndarray:
    return np.array([str(value) for value in column], dtype=np.str_)


def write_system_predictions(
    name: str, bundle: str | Path, cohort: Cohort, folder: Path, progress: Progress
) -> tuple[ModelPredictions, ...]:
    """Ask a system about the patients of a cohort and write a folder of predictions.

    Raises
    ------
    ModelError
        The bundle is damaged, or not one of this system.
    TrainingDataError
        The cohort has no patient whom the system is made for, or images cannot be read.
    PredictionsError
        The predictions contradict each other.
    """
    system = SYSTEMS[name]
    told = describe(bundle)
    if told.kind is not BundleKind.SECOND_OPINION or told.format != system.format:
        trained = system.trained_as or name
        raise ModelError(
            f"the model bundle {told.info.name} is no {trained}; hepatocast train {trained} makes one"
        )
    patients = cohort_patients(cohort, regimens_of(told, system.regimens))
    module, _, function = system.predict.partition(":")
    predict: Predict = getattr(importlib.import_module(module), function)
    models = predict(told, cohort, patients, progress)
    write_predictions(folder, patients, models, Study(title=f"Evaluation of {name} on {cohort.info.name}"))
    return models


def regimens_of(bundle: BundleDescription, key: str = "regimens") -> tuple[str, ...]:
    """Return the regimens that a system was made for, under a key of its metadata; empty for all."""
    found = bundle.metadata.get(key, ())
    return tuple(str(r) for r in found) if isinstance(found, list | tuple) else ()
