"""What the pipeline returns: frozen, typed, free of torch.

Arrays are NumPy, in the order (slice, row, column) of the baseline series, and are not to be
written to. Coordinates are DICOM patient coordinates (LPS, mm). Volumes are in ml, diameters in mm,
times in months after the start of treatment.
"""

from __future__ import annotations

from inference.results.arrays import FloatArray, Labels, Mask, StoredValues, Voxels
from inference.results.bundles import BundleInfo
from inference.results.generated import (
    GeneratedCourse,
    GeneratedTimePoint,
    TimePointKind,
    TrajectoryPoint,
    ViableRange,
    VirtualImage,
)
from inference.results.images import Baseline, Box, Grid, RejectedSeries, Resampled, SeriesVolume
from inference.results.opinions import (
    AssessedPatient,
    OpinionNomogram,
    OpinionPicture,
    OpinionValue,
    SecondOpinion,
)
from inference.results.outlines import Lesion, PassedOver, Region, Segmentation, Tissue, TissueMap
from inference.results.refusals import NotAssessed, Reason
from inference.results.response import (
    NOT_CHECKED,
    Axis,
    ImageCheck,
    LesionMeasurement,
    Response,
    ResponseCategory,
)
from inference.results.study import ClinicalSummary, Comparison, RegimenForecast, StudyResults, TimePoint
from inference.results.survival import Survival, SurvivalBasis, SurvivalCurve

__all__ = [
    "AssessedPatient",
    "Axis",
    "Baseline",
    "Box",
    "BundleInfo",
    "ClinicalSummary",
    "Comparison",
    "FloatArray",
    "GeneratedCourse",
    "GeneratedTimePoint",
    "Grid",
    "ImageCheck",
    "Labels",
    "Lesion",
    "LesionMeasurement",
    "Mask",
    "NOT_CHECKED",
    "NotAssessed",
    "OpinionNomogram",
    "OpinionPicture",
    "OpinionValue",
    "PassedOver",
    "Reason",
    "RegimenForecast",
    "Region",
    "RejectedSeries",
    "Resampled",
    "Response",
    "ResponseCategory",
    "SecondOpinion",
    "Segmentation",
    "SeriesVolume",
    "StoredValues",
    "StudyResults",
    "Survival",
    "SurvivalBasis",
    "SurvivalCurve",
    "TimePoint",
    "TimePointKind",
    "Tissue",
    "TissueMap",
    "TrajectoryPoint",
    "ViableRange",
    "VirtualImage",
    "Voxels",
]
