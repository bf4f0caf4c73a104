"""The ``axes`` report: long and short axis of every lesion at every time point, and nothing else.

It is written so that OHIF loads it as bidirectional measurements: a tracking identifier that names its
tool, one tracking UID for each time point (OHIF merges groups that share one), the meanings ``Long
Axis`` and ``Short Axis``, and coordinates under each number.
"""

from __future__ import annotations

from collections.abc import Iterator

from highdicom import sr
from pydicom.dataset import Dataset

from inference.results import Axis, LesionMeasurement, StudyResults
from reporting import codes
from reporting.common import SeriesOfNode
from reporting.context import Context
from reporting.structured import (
    KeySlices,
    Moment,
    document,
    finding_sites,
    measurement_report,
    moments,
    polyline,
    regimen_evaluation,
    time_point_context,
)

SERIES_NUMBER = 9800
TOOL = "Cornerstone3DTools@^0.1.0:Bidirectional"


def build(results: StudyResults, context: Context) -> Iterator[Dataset]:
    """Yield the report; nothing when no lesion has two axes at any time point."""
    slices = KeySlices(results, context)
    groups = [
        _group(context, slices, moment, lesion, lesion.long_axis, lesion.short_axis)
        for moment in moments(results)
        for lesion in moment.lesions
        if lesion.long_axis is not None and lesion.short_axis is not None
    ]
    if not groups:
        return
    images = slices.all()
    root = measurement_report(results, context, codes.IMAGING_MEASUREMENT_REPORT, groups, images)
    series = SeriesOfNode(context.uids.derive("axes series"), SERIES_NUMBER, "AI VIRTUAL tumour axes (SR)")
    yield document(results, context, root, images, series, context.uids.derive("axes"))


def _group(
    context: Context,
    slices: KeySlices,
    moment: Moment,
    lesion: LesionMeasurement,
    long_axis: Axis,
    short_axis: Axis,
) -> sr.MeasurementsAndQualitativeEvaluations:
    name = f"{lesion.lesion_id} {moment.text}"
    images = [slices.of(moment, axis.slice_index) for axis in (long_axis, short_axis)]
    measurements = [
        sr.Measurement(
            name=concept,
            value=round(axis.length_mm, 1),
            unit=codes.MM,
            referenced_coordinates=[polyline(axis, image)],
        )
        for concept, axis, image in zip(
            (codes.LONG_AXIS, codes.SHORT_AXIS), (long_axis, short_axis), images, strict=True
        )
    ]
    key = "baseline" if moment.forecast is None else moment.text
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=context.uids.derive("tracking", lesion.lesion_id, "axes", key, moment.order),
            identifier=f"{TOOL}:{name}",
        ),
        time_point_context=time_point_context(moment),
        finding_type=codes.LIVER_CELL_CARCINOMA,
        finding_sites=finding_sites(),
        measurements=measurements,
        qualitative_evaluations=[regimen_evaluation(moment.forecast)] if moment.forecast else None,
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(images[0])],
    )
