"""Measure every time point and classify the response by RECIST 1.1 and mRECIST."""

from __future__ import annotations

from inference.case import Phase
from inference.clinical.response_course import classify_mrecist, classify_recist11, smallest_target_mm
from inference.imaging.measurement import measure_lesions, viable_ml
from inference.results import (
    Baseline,
    GeneratedCourse,
    LesionMeasurement,
    NotAssessed,
    Reason,
    Response,
    Segmentation,
    TimePoint,
)

ARTERIAL_PHASES = (Phase.ARTERIAL, Phase.T1_ARTERIAL)

_PHASE_MISSING = NotAssessed(
    Reason.PHASE_MISSING,
    "mRECIST needs an arterial phase, and the study has none.",
)


def measure_baseline(baseline: Baseline, segmentation: Segmentation) -> tuple[LesionMeasurement, ...]:
    """Measure the lesions at baseline."""
    numbers = [lesion.number for lesion in segmentation.lesions]
    return measure_lesions(segmentation.labels, baseline.primary.grid, numbers)


def respond(
    baseline: Baseline,
    segmentation: Segmentation,
    baseline_lesions: tuple[LesionMeasurement, ...],
    course: GeneratedCourse,
) -> tuple[TimePoint, ...]:
    """Measure and classify the time points of one regimen, in the order of their months.

    The nadir is the smallest sum of this regimen up to each time point, the baseline included.
    """
    grid = baseline.primary.grid
    numbers = [lesion.number for lesion in segmentation.lesions]
    ordered = sorted(course.time_points, key=lambda p: p.months)
    measured = [measure_lesions(p.labels, grid, numbers) for p in ordered]
    smallest = smallest_target_mm(baseline.primary)
    recist = classify_recist11(baseline_lesions, measured, smallest)
    mrecist: tuple[Response | NotAssessed, ...] = (_PHASE_MISSING,) * len(ordered)
    if any(baseline.phase(phase) for phase in ARTERIAL_PHASES):
        mrecist = classify_mrecist(baseline_lesions, measured, smallest)
    return tuple(
        TimePoint(point, lesions, viable_ml(point.labels, grid), r, m)
        for point, lesions, r, m in zip(ordered, measured, recist, mrecist, strict=True)
    )
