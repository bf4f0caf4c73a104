"""What both structured reports share: context, algorithms, time points, and finishing the document.

References
----------
PS3.16 TID 1500 (Measurement Report), TID 1501 (Measurement and Qualitative Evaluation Group),
TID 1502 (Time Point Context), TID 4019 (Algorithm Identification); PS3.3 A.35.13 (Comprehensive 3D SR).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import highdicom as hd
import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID

from inference.results import (
    Axis,
    BundleInfo,
    LesionMeasurement,
    RegimenForecast,
    StudyResults,
    TimePoint,
)
from reporting import codes, virtual_series
from reporting.common import (
    SeriesOfNode,
    character_set,
    clean_element,
    local_offset,
    months_text,
    new_dataset,
    point_key,
    set_dates,
    set_equipment,
    set_file_meta,
    set_patient_and_study,
    source_header,
    synthesizing_equipment,
    time_point_text,
    time_points,
)
from reporting.context import Context
from reporting.uids import IMPLEMENTATION_CLASS_UID

_IMAGE_KEYWORDS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "Rows",
    "Columns",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time point of the report: the baseline, or a forecast one under a regimen."""

    order: int
    forecast: RegimenForecast | None
    point: TimePoint | None
    lesions: tuple[LesionMeasurement, ...]

    @property
    def text(self) -> str:
        """What people call it."""
        if self.forecast is None or self.point is None:
            return "Baseline"
        return f"{time_point_text(self.point)} {self.forecast.name}"

    @property
    def months(self) -> float:
        """Months after the start of treatment."""
        return 0.0 if self.point is None else self.point.generated.months


def moments(results: StudyResults) -> tuple[Moment, ...]:
    """Return the baseline and every forecast time point."""
    found = [Moment(0, None, None, results.baseline_lesions)]
    found += [Moment(n, f, p, p.lesions) for n, (f, p) in enumerate(time_points(results), start=1)]
    return tuple(found)


# ------------------------------------------------------------------ images that are referred to


class KeySlices:
    """Headers of the slices that a report refers to, made once each, in the order of first use."""

    def __init__(self, results: StudyResults, context: Context) -> None:
        self._results = results
        self._context = context
        plans = virtual_series.virtual_series(results, context)
        self._virtual = virtual_series.primary_series(results, plans)
        self._found: dict[tuple[int, int], Dataset] = {}

    def of(self, moment: Moment, index: int) -> Dataset:
        """Return the header of slice `index` of the primary series at a time point."""
        key = (moment.order, index)
        if key not in self._found:
            self._found[key] = self._header(moment, index)
        return self._found[key]

    def all(self) -> list[Dataset]:
        """Return all that were asked for."""
        return list(self._found.values())

    def _header(self, moment: Moment, index: int) -> Dataset:
        if moment.forecast is None or moment.point is None:
            return self._baseline(index)
        plan = self._virtual[point_key(moment.forecast, moment.point)]
        return virtual_series.header(self._results, self._context, plan, index)

    def _baseline(self, index: int) -> Dataset:
        volume = self._results.baseline.primary
        source = volume.headers[index]
        ds = new_dataset(self._results, self._context, UID(source.SOPClassUID), UID(source.SOPInstanceUID))
        ds.SeriesInstanceUID = volume.series_instance_uid
        ds.Modality = volume.modality
        for keyword in _IMAGE_KEYWORDS:
            if keyword in source:
                ds.add(clean_element(source[keyword]))
        ds.FrameOfReferenceUID = volume.grid.frame_of_reference_uid
        return ds


def polyline(axis: Axis, image: Dataset) -> sr.CoordinatesForMeasurement:
    """Return the end points of an axis on its image, (column, row), 0.5 at the centre of the first pixel."""
    points = np.array([axis.start_rc[::-1], axis.end_rc[::-1]]) + 0.5
    extent = np.array([image.Columns, image.Rows], dtype=float)
    return sr.CoordinatesForMeasurement(
        graphic_type="POLYLINE",
        graphic_data=np.clip(points, 0.0, extent),
        source_image=sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID),
    )


# ------------------------------------------------------------------ content


def time_point_context(moment: Moment) -> sr.TimePointContext:
    """Return TID 1502 without numbers: OHIF takes the first number of a group for its measurement."""
    return sr.TimePointContext(
        time_point=moment.text,
        time_point_type=_time_point_type(moment),
        subject_time_point_identifier=moment.text,
    )


def dated_time_point_context(moment: Moment) -> sr.TimePointContext:
    """Return TID 1502 with order and months after baseline."""
    return sr.TimePointContext(
        time_point=moment.text,
        time_point_type=_time_point_type(moment),
        time_point_order=moment.order,
        subject_time_point_identifier=moment.text,
        temporal_offset_from_event=sr.LongitudinalTemporalOffsetFromEvent(
            value=float(months_text(moment.months)), unit=codes.MONTH, event_type=codes.BASELINE
        ),
    )


def _time_point_type(moment: Moment) -> Code:
    return codes.BASELINE if moment.point is None else codes.PREDICTED_FOLLOW_UP


def regimen_evaluation(forecast: RegimenForecast) -> sr.QualitativeEvaluation:
    """Return the regimen as a coded evaluation."""
    return sr.QualitativeEvaluation(codes.REGIMEN, codes.regimen(forecast.regimen_id, forecast.name))


def finding_sites() -> list[sr.FindingSite]:
    """Return the liver."""
    return [sr.FindingSite(anatomic_location=codes.LIVER)]


def measurement_report(
    results: StudyResults,
    context: Context,
    title: Code,
    groups: Sequence[sr.MeasurementsAndQualitativeEvaluations],
    images: Sequence[Dataset],
) -> Dataset:
    """Return the content tree of TID 1500, with every model of the forecast identified (TID 4019)."""
    root: Dataset = sr.MeasurementReport(
        observation_context=_observation_context(context),
        procedure_reported=codes.PROCEDURES.get(
            results.baseline.primary.modality, codes.DIAGNOSTIC_IMAGING_STUDY
        ),
        imaging_measurements=groups,
        title=title,
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            sr.CodedConcept.from_code(codes.ENGLISH)
        ),
        referenced_images=images,
    )[0]
    wanted = codes.IMAGING_MEASUREMENTS.value
    container = next(c for c in root.ContentSequence if c.ConceptNameCodeSequence[0].CodeValue == wanted)
    for item in reversed(_algorithm(results, "generator")):
        container.ContentSequence.insert(0, item)
    return root


def group_algorithm(results: StudyResults, part: str) -> sr.AlgorithmIdentification:
    """Return the model of one part of the forecast (TID 4019)."""
    return algorithm_of(results, results.bundles[part])


def algorithm_of(results: StudyResults, info: BundleInfo) -> sr.AlgorithmIdentification:
    """Return a model (TID 4019)."""
    return sr.AlgorithmIdentification(
        name=info.name,
        version=info.version,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        parameters=[f"seed={results.seed}", f"sha256={info.sha256}", f"trained on: {info.trained_on}"],
    )


def _algorithm(results: StudyResults, part: str) -> list[Dataset]:
    return list(group_algorithm(results, part))


def _observation_context(context: Context) -> sr.ObservationContext:
    equipment = context.equipment
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(
            observer_type=sr.CodedConcept.from_code(codes.DEVICE),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=hd.UID(context.uids.derive("device")),
                name=equipment.model_name,
                manufacturer_name=equipment.manufacturer,
                model_name=equipment.model_name,
                serial_number=equipment.device_serial_number,
            ),
        )
    )


# ------------------------------------------------------------------ document


def document(
    results: StudyResults,
    context: Context,
    root: Dataset,
    evidence: Sequence[Dataset],
    series: SeriesOfNode,
    sop_instance_uid: UID,
) -> Dataset:
    """Return a Comprehensive 3D SR with deterministic dates and UIDs, complete and unverified."""
    equipment = context.equipment
    ds: Dataset = sr.Comprehensive3DSR(
        evidence=evidence,
        content=root,
        series_instance_uid=series.uid,
        series_number=series.number,
        sop_instance_uid=sop_instance_uid,
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        manufacturer=equipment.manufacturer,
        manufacturer_model_name=equipment.model_name,
        software_versions=equipment.software_version,
        device_serial_number=equipment.device_serial_number,
        series_description=series.description[:64],
    )
    ds.SpecificCharacterSet = character_set(results)
    set_patient_and_study(ds, source_header(results))
    set_equipment(ds, context)
    set_dates(ds, context, local_offset(results))
    ds.InstanceCreatorUID = IMPLEMENTATION_CLASS_UID
    ds.ContentQualification = str(context.qualification)
    ds.SyntheticData = "YES"
    ds.ContributingEquipmentSequence = [synthesizing_equipment(context, "Made the measurements")]
    ds.CodingSchemeIdentificationSequence = [codes.private_scheme()]
    set_file_meta(ds)
    return ds
