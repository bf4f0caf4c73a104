"""What systems beside the forecast itself say of a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from inference.case import ClinicalRecord
from inference.results.bundles import BundleInfo
from inference.results.images import Baseline
from inference.results.outlines import Segmentation
from inference.results.refusals import NotAssessed
from inference.results.response import LesionMeasurement

if TYPE_CHECKING:
    from inference.clinical.nomogram import Nomogram, Scored


@dataclass(frozen=True, slots=True)
class AssessedPatient:
    """What is known of a patient before anything is forecast.

    Attributes
    ----------
    lesions : tuple of LesionMeasurement
        At baseline.
    clinical : ClinicalRecord
        With the tumour variables that were measured on the images where it had none.
    """

    baseline: Baseline
    segmentation: Segmentation
    lesions: tuple[LesionMeasurement, ...]
    clinical: ClinicalRecord


@dataclass(frozen=True, slots=True)
class OpinionValue:
    """One value of a second opinion.

    Attributes
    ----------
    name : str
        What is told, for people, such as ``objective response``.
    value : float or str
    unit : str
        UCUM, ``1`` for a probability or a score; empty where the value is a word.
    interval95 : (lower, upper) or None
    """

    name: str
    value: float | str
    unit: str = ""
    interval95: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class OpinionPicture:
    """A picture that explains a second opinion, such as an attention map.

    Attributes
    ----------
    title : str
    rgb : array of uint8, (rows, columns, 3)
    """

    title: str
    rgb: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class OpinionNomogram:
    """A nomogram behind a second opinion; the outputs draw it, with the points of the patient.

    Attributes
    ----------
    patient : Scored or None
        None where a value that the nomogram needs is missing.
    """

    title: str
    nomogram: Nomogram
    patient: Scored | None


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What one system says of a patient, under one regimen or whatever the regimen.

    Attributes
    ----------
    system : str
        Name of the system, such as ``delicaite``.
    about : str
        One sentence: what the values are, and which patients the system was made for.
    regimen_id : str or None
    values : tuple of OpinionValue, or NotAssessed
    """

    system: str
    bundle: BundleInfo
    about: str
    regimen_id: str | None
    values: tuple[OpinionValue, ...] | NotAssessed
    pictures: tuple[OpinionPicture, ...] = ()
    nomogram: OpinionNomogram | None = None
