"""What the comparison learns from: covariates at baseline, the regimen given, and the follow-up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.results import FloatArray


@dataclass(frozen=True, slots=True)
class ComparisonCohort:
    """Patients who were treated, each under one regimen.

    Time zero is the start of treatment, and every covariate and the regimen itself must be known then. A
    patient who counts as treated with a combination only because he lived to receive its second part
    cannot have died before: that immortal time is credited to the combination, and no adjustment for
    baseline covariates takes it away. Take the planned regimen, or a landmark that all have survived.

    Attributes
    ----------
    names : tuple of str
        Of the covariates.
    covariates : array, (patients, covariates)
        Complete; numbers, or 0 and 1.
    regimens : tuple of str
        Identifiers; the first is the reference that others are preferred to.
    regimen : array of int, (patients,)
        Index into `regimens`.
    months : array, (patients,)
        From the start of treatment to death or the last contact; > 0.
    event : array of bool, (patients,)
        Whether death was seen.

    Raises
    ------
    ValueError
        Lengths do not agree, a value is missing, a time is not positive, a regimen is unknown.
    """

    names: tuple[str, ...]
    covariates: FloatArray
    regimens: tuple[str, ...]
    regimen: npt.NDArray[np.intp]
    months: FloatArray
    event: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.months)
        if self.covariates.shape != (n, len(self.names)) or len(self.regimen) != n or len(self.event) != n:
            raise ValueError("covariates, regimens and follow-up of a cohort must be of the same patients")
        if len(set(self.regimens)) < len(self.regimens) or len(self.regimens) < 2:
            raise ValueError("a comparison needs at least two regimens, each named once")
        lacking = [
            name
            for name, own in zip(self.names, self.covariates.T, strict=True)
            if not np.isfinite(own).all()
        ]
        if lacking:
            raise ValueError(f"values are missing in {', '.join(lacking)}: leave the patients out or impute")
        if not (np.isfinite(self.months).all() and (self.months > 0).all()):
            raise ValueError("every follow-up must be longer than 0 months")
        if self.regimen.min() < 0 or self.regimen.max() >= len(self.regimens):
            raise ValueError("a patient has a regimen that the cohort does not name")
