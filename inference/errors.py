"""Errors of the forecast.

    InferenceError
    ├── RejectedInput        the study cannot be forecast, and trying again changes nothing
    │   ├── GeometryError    slices do not form one volume
    │   ├── PixelsUnreadable pixel data cannot be decoded
    │   ├── SegmentationMissing   no liver segmentation in the study
    │   ├── ImplausibleSegmentation   a segmentation outside the limits of anatomy
    │   ├── ReviewNeeded     outlines of a program that a person has to look at first
    │   ├── ClinicalError    a clinical value with an unknown unit or an implausible size
    │   └── UnsupportedRegimen    a regimen that no bundle covers
    ├── ClinicalSourceAway   a source of clinical values does not answer; worth asking again
    ├── ModelError           a bundle is damaged, unverified or failed to compute
    └── PredictionsError     a folder of predictions cannot be read, or is not what it says

Every message is one sentence for a radiologist, and names no patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inference.results import Baseline, Segmentation


class InferenceError(Exception):
    """Root of all errors raised in this package."""


class RejectedInput(InferenceError):
    """The study is refused; the message is the reason that people read."""


class GeometryError(RejectedInput):
    """The slices of a series do not form one regular volume."""


class PixelsUnreadable(RejectedInput):
    """Pixel data is damaged, or compressed in a way that no decoder here reads."""


class SegmentationMissing(RejectedInput):
    """No liver segmentation is in the study."""


class ImplausibleSegmentation(RejectedInput):
    """A segmentation lies outside the limits of anatomy."""


class ReviewNeeded(RejectedInput):
    """A program's outlines are possible but doubtful; a person corrects, releases or rejects them.

    Attributes
    ----------
    baseline, segmentation
        What was found, for a proposal that people can edit.
    """

    def __init__(self, reason: str, baseline: Baseline, segmentation: Segmentation) -> None:
        super().__init__(reason)
        self.baseline = baseline
        self.segmentation = segmentation


class ClinicalError(RejectedInput):
    """A clinical value has an unknown unit or an implausible size."""


class ClinicalSourceAway(InferenceError):
    """A source of clinical values does not answer, or not as it is configured; worth asking again."""


class UnsupportedRegimen(RejectedInput):
    """No bundle is trained or parameterised for the regimen."""


class ModelError(InferenceError):
    """A bundle is damaged or unverified, or a model failed to compute."""


class TrainingDataError(InferenceError):
    """A cohort or a training table cannot be read, or lacks what a training needs."""


class PredictionsError(InferenceError):
    """A folder of predictions cannot be read, lacks a patient, or holds what is no prediction."""
