"""Whom a model never saw, by what its bundle says of its training.

A generator that saw a patient's true follow-up draws it from memory, and its images would pass for
forecasts. So virtual images of a patient come only from models that were trained without that patient, and
what a bundle says of its training decides that, not a promise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.bundle_store import load_metadata
from inference.errors import ModelError
from inference.results import BundleInfo
from inference.training.cohort import Cohort, Split
from inference.training.cohort_split import patients_of_part


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """One cohort that a bundle was trained on.

    Attributes
    ----------
    name : str
        Empty where the bundle gives the digest alone.
    sha256 : str
    left_out : str
        Part of its training patients that the model did not see, such as ``2/5``; empty: none.
    """

    name: str
    sha256: str
    left_out: str = ""


def training_cohorts(metadata: Mapping[str, Any]) -> tuple[TrainedOn, ...]:
    """Return the cohorts that a bundle was trained on; none where it does not say."""
    told = [*metadata.get("cohorts", ()), metadata.get("cohort", {})]
    told.append({"sha256": metadata.get("cohort_sha256", "")})
    found = [
        TrainedOn(str(c.get("name", "")), str(c.get("sha256", "")), str(c.get("left_out", ""))) for c in told
    ]
    named = {c.sha256 for c in found if c.name}
    return tuple(c for c in found if c.sha256 and (c.name or c.sha256 not in named))


def never_seen(name_or_path: str, what: str, cohort: Cohort) -> tuple[BundleInfo, frozenset[str]]:
    """Return what a bundle is, and the patients of a cohort that its training never read.

    Training reads the training and validation patients of a cohort, but for those of a part that was left
    out, and no others. Of a cohort that is not named among those of the training all patients are new.

    Parameters
    ----------
    what : str
        Such as ``generator``, for messages.

    Raises
    ------
    ModelError
        The bundle is damaged, does not say what it was trained on, or was trained on a cohort of the same
        name, or of none, and another digest, such as the same patients under a former division.
    """
    info, metadata = load_metadata(name_or_path)
    cohorts = training_cohorts(metadata)
    if not cohorts:
        raise ModelError(
            f"the {what} {info.name} does not say on which cohorts it was trained, so nobody can tell whom "
            "it never saw"
        )
    everybody = frozenset(cohort.patients["patient_id"])
    seen: set[str] = set()
    for trained in cohorts:
        if trained.sha256 == cohort.info.sha256:
            seen |= _read(cohort, trained)
        elif trained.name in ("", cohort.info.name):
            raise ModelError(
                f"the {what} {info.name} was trained on a cohort {trained.name or 'without a name'} of "
                "another digest: the patients may be the same, in another division; train it again"
            )
    return info, everybody - seen


def _read(cohort: Cohort, trained: TrainedOn) -> frozenset[str]:
    used = frozenset(cohort.ids(Split.TRAIN, Split.VALIDATION))
    return used - patients_of_part(cohort, trained.left_out) if trained.left_out else used
