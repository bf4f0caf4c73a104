"""Whom an evaluation is about: patients whom neither its models nor its other sets ever saw."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from inference.bundle_store import load_metadata
from inference.errors import ModelError, TrainingDataError
from inference.results import BundleInfo
from inference.training.cohort import Cohort, Split
from inference.training.never_seen import never_seen, training_cohorts

_TELLS_APART = ("liver_ml", "baseline_total_ml", "os_months", "pfs_months")
"""Columns whose values together belong to one patient."""


def check_never_seen(name_or_path: str, what: str, cohort: Cohort, external: Sequence[Cohort]) -> BundleInfo:
    """Return what a bundle is, after its metadata showed that it saw no patient of the evaluation.

    Those are the test patients of the cohort, which training never reads, and everybody of external cohorts.

    Parameters
    ----------
    what : str
        Such as ``generator``, for messages.

    Raises
    ------
    ModelError
        As `never_seen` says, or the bundle was trained on an external cohort.
    """
    info, _ = never_seen(name_or_path, what, cohort)
    _, metadata = load_metadata(name_or_path)
    known = {trained.sha256 for trained in training_cohorts(metadata)}
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
