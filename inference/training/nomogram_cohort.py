"""The Cox nomogram of seed 001 on a cohort: five clinical predictors and a few image features.

The study's predictors are AFP of 400 ng/ml and more, invasion of the main portal trunk (Vp4), a largest
tumour above 10 cm, a capsule and the diffuse type, with six image features. Ours are radiomics of the
baseline that a lasso Cox model chooses among the training patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from inference.bundle_store import BundleKind, seal
from inference.clinical.nomogram import Nomogram
from inference.clinical.nomogram_predictors import PREDICTORS, clinical_predictors
from inference.errors import TrainingDataError
from inference.evaluation.metrics import BoolArray
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.follow_up import FollowUp
from inference.models.protocols import Progress
from inference.results import FloatArray
from inference.settings import Frozen
from inference.training.cohort import Cohort, Split
from inference.training.cohort_rows import clinical_of
from inference.training.lasso_cox_fit import Preparation
from inference.training.lasso_path import Lasso, largest_penalty, penalties
from inference.training.nomogram_fit import Line, fit_nomogram
from inference.training.radiomics_cox import RadiomicsTable, outcomes_of, radiomics_table

_NO_YES = {"no": 0.0, "yes": 1.0}
CLINICAL_LINES = tuple(Line(name, title, levels=_NO_YES) for name, title in PREDICTORS.items())
"""The clinical predictors of seed 001."""


class NomogramTraining(Frozen):
    """How a nomogram is fitted to a cohort."""

    endpoint: str = "pfs"
    image_features: int = Field(6, ge=0, description="largest number of radiomics features")
    months: tuple[float, ...] = (12.0, 18.0, 24.0)
    version: str = "1"


def chosen_features(features: FloatArray, time: FloatArray, event: BoolArray, count: int) -> np.ndarray:
    """Return the places of the features that a lasso Cox model takes first, at most `count`."""
    if count == 0:
        return np.zeros(0, dtype=np.intp)
    prepared = Preparation.of(features)
    x = prepared.apply(features)
    lasso = Lasso(x, time, event)
    chosen = np.zeros(0, dtype=np.intp)
    for penalty in penalties(largest_penalty(x, time, event)).tolist():
        found = np.flatnonzero(lasso.at(penalty))
        if len(found) > count:
            break
        chosen = found
    return np.asarray(prepared.used[chosen])


def train_nomogram(
    cohort: Cohort, out: Path, work: Path, settings: NomogramTraining, progress: Progress
) -> Mapping[str, Any]:
    """Fit the nomogram on the training patients and write its bundle; return the metadata.

    Predictors that are the same in all training patients are left out, and named in the metadata.

    Parameters
    ----------
    work : Path
        Takes the radiomics of the patients.

    Raises
    ------
    TrainingDataError
        The cohort has no training patients.
    ModelError
        Too few complete patients, or no event.
    """
    ids, held = cohort.ids(Split.TRAIN), cohort.ids(Split.VALIDATION)
    if not ids:
        raise TrainingDataError("the cohort has no training patients")
    everyone = (*ids, *held)
    clinical = np.array([list(clinical_predictors(clinical_of(cohort.row(p))).values()) for p in everyone])
    time, event = outcomes_of(cohort, everyone, settings.endpoint)
    n = len(ids)
    lines, columns = list(CLINICAL_LINES), [clinical]
    if settings.image_features:
        table = radiomics_table(cohort, everyone, work, progress)
        places = chosen_features(table.values[:n], time[:n], event[:n], settings.image_features)
        lines += _image_lines(table, places)
        columns.append(table.values[:, places])
    values = np.concatenate(columns, axis=1)
    differs = differing(values[:n])
    left_out = [line.name for line, ok in zip(lines, differs, strict=True) if not ok]
    used = [line for line, ok in zip(lines, differs, strict=True) if ok]
    values = values[:, differs]
    nomogram = fit_nomogram(values[:n], used, time[:n], event[:n], settings.endpoint, settings.months)
    nomogram.write(out)
    metadata = {
        "name": f"nomogram_{cohort.info.modality.lower()}_{settings.endpoint}",
        "version": settings.version,
        "kind": BundleKind.SECOND_OPINION.value,
        "format": "nomogram",
        "modality": cohort.info.modality,
        "schema": 1,
        "trained_on": f"{cohort.info.origin}: {cohort.info.name}, n={n}, events={int(event[:n].sum())}",
        "endpoint": settings.endpoint,
        "cohort_sha256": cohort.info.sha256,
        "complete_patients": int(np.isfinite(values[:n]).all(axis=1).sum()),
        "left_out": left_out,
        "metrics": _figures(nomogram, values[n:], FollowUp(time[n:], event[n:]) if held else None),
    }
    seal(out, metadata)
    return metadata


def _image_lines(table: RadiomicsTable, places: np.ndarray) -> list[Line]:
    names = [table.names[int(place)] for place in places]
    return [Line(name, name.replace("_", " ")) for name in names]


def differing(values: FloatArray) -> BoolArray:
    """Return which predictors, (p,), differ among the patients without missing values, of values (n, p)."""
    complete = values[np.isfinite(values).all(axis=1)]
    if not len(complete):
        return np.ones(values.shape[1], dtype=bool)
    return np.asarray(complete.std(axis=0) > 0)


def _figures(nomogram: Nomogram, values: FloatArray, follow_up: FollowUp | None) -> dict[str, float]:
    complete = np.isfinite(values).all(axis=1)
    if follow_up is None or complete.sum() < 2 or not follow_up.event[complete].any():
        return {}
    names = [p.name for p in nomogram.file.predictors]
    totals = [nomogram.score(dict(zip(names, row.tolist(), strict=True))).total for row in values[complete]]
    seen = FollowUp(follow_up.time[complete], follow_up.event[complete])
    return {"validation_c": round(harrell_c(seen, totals), 4), "validation_n": int(complete.sum())}


def image_names(nomogram: Nomogram) -> Sequence[str]:
    """Return the predictors of a nomogram that are measured in images."""
    clinical = {line.name for line in CLINICAL_LINES}
    return [p.name for p in nomogram.file.predictors if p.name not in clinical]
