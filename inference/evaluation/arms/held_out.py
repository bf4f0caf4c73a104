"""Who was never seen: by the generator, by the image encoder, and by the survival models of other sets.

A generator that saw a patient's true follow-up draws it from memory, and its images would pass for
forecasts. So images of a patient come only from models that were trained without that patient, and what
a bundle says of its training decides that, not a promise.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from inference.bundle_store import load_metadata
from inference.errors import ModelError, TrainingDataError
from inference.results import BundleInfo
from inference.training.cohort import Cohort, Split
from inference.training.never_seen import training_cohorts

_TELLS_APART = ("liver_ml", "baseline_total_ml", "os_months", "pfs_months")
"""Columns whose values together belong to one patient."""


def check_never_seen(name_or_path: str, what: str, cohort: Cohort, external: Sequence[Cohort]) -> BundleInfo:
    """Return what a bundle is, after its metadata showed that it saw no patient of the evaluation.

    Its training must have been on the cohort whose test patients are evaluated: training reads the
    training and validation patients of a cohort and no others. Of external cohorts it must know nothing.

    Parameters
    ----------
    what : str
        Such as ``generator``, for messages.

    Raises
    ------
    ModelError
        The bundle is damaged, does not say what it was trained on, was trained on another cohort, or on an
        external one.
    """
    info, metadata = load_metadata(name_or_path)
    known = {trained.sha256 for trained in training_cohorts(metadata)}
    if not known:
        raise ModelError(
            f"the {what} {info.name} does not say on which cohorts it was trained, so nobody can tell that "
            "it never saw the test patients"
        )
    if cohort.info.sha256 not in known:
        raise ModelError(
            f"the {what} {info.name} was trained on other cohorts than {cohort.info.name}: whether it saw "
            "its test patients cannot be told; give the cohort that it was trained on"
        )
    for other in external:
        if other.info.sha256 in known:
            raise ModelError(
                f"the {what} {info.name} was trained on {other.info.name}, which is no external set then"
            )
    return info


def check_external(cohort: Cohort, external: Sequence[Cohort]) -> None:
    """Refuse an external cohort that shares patients with the cohort, whatever they are called there.

    Raises
    ------
    TrainingDataError
        One does, is of another modality, or is the cohort itself.
    """
    for other in external:
        if other.info.modality != cohort.info.modality:
            raise TrainingDataError(f"{other.info.name} is {other.info.modality}, not {cohort.info.modality}")
        shared = _marks(cohort.patients) & _marks(other.patients)
        if shared:
            raise TrainingDataError(
                f"{len(shared)} patients of {other.info.name} are also in {cohort.info.name}: it is no "
                "external set"
            )


def _marks(patients: pd.DataFrame) -> set[tuple[float, ...]]:
    rounded = patients[list(_TELLS_APART)].astype(float).round(3)
    return {tuple(row) for row in rounded.itertuples(index=False, name=None)}


def evaluated(cohort: Cohort, most: int) -> tuple[str, ...]:
    """Return the test patients, at most so many, in the order of the table.

    Raises
    ------
    TrainingDataError
        There are none.
    """
    ids = cohort.ids(Split.TEST)[:most]
    if not ids:
        raise TrainingDataError(f"{cohort.info.name} has no test patients")
    return ids
