"""``result.json``: the forecast as one document that programs read.

Numbers are rounded to what they mean: millimetres and months to a tenth or hundredth, millilitres to a
hundredth, probabilities to four digits.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from inference.case import ClinicalRecord
from inference.results import (
    ImageCheck,
    LesionMeasurement,
    NotAssessed,
    RegimenForecast,
    Response,
    StudyResults,
    SurvivalBasis,
    SurvivalCurve,
    TimePoint,
    Tissue,
)
from reporting.common import point_key, source_header, time_points
from reporting.marker import place_marker
from reporting.result_parts import Json, bundle_json, comparison_json, not_assessed_json, opinion_json

if TYPE_CHECKING:
    from reporting.outputs import WrittenObject

SCHEMA = 1
"""Version of the document's form."""
HORIZONS_MONTHS = (12, 24, 36)

SeriesOfPoints: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]
"""`reporting.common.point_key` of a time point -> phase -> Series Instance UID."""


def result_document(
    results: StudyResults,
    written: Sequence[WrittenObject],
    report_s: float,
) -> Json:
    """Return the document.

    Parameters
    ----------
    results : StudyResults
    written : sequence of WrittenObject
        What was written; virtual series are matched to their time points by order.
    report_s : float
        Seconds that building and writing took.
    """
    uids = _virtual_uids(results, written)
    primary = str(results.baseline.primary.phase)
    timings = {name: round(value, 3) for name, value in results.timings_s.items()} | {
        "report": round(report_s, 3)
    }
    timings["total"] = round(sum(timings.values()), 3)
    return {
        "schema": SCHEMA,
        "study": _study(results, written),
        "bundles": {part: bundle_json(info) for part, info in results.bundles.items()},
        "seed": results.seed,
        "timings_s": timings,
        "segmentation": _segmentation(results),
        "clinical": _clinical(results),
        "regimens": [_regimen(f, uids, primary) for f in results.forecasts],
        "second_opinions": [opinion_json(opinion) for opinion in results.second_opinions],
        "comparison": comparison_json(results),
        "warnings": list(results.warnings),
        "objects": _objects(written),
    }


def patient_hash(results: StudyResults) -> str | None:
    """Return a digest of issuer and Patient ID, or None for a patient without an ID."""
    header = source_header(results)
    patient_id = str(header.get("PatientID", "") or "").strip()
    if not patient_id:
        return None
    issuer = str(header.get("IssuerOfPatientID", "") or "").strip()
    return hashlib.sha256(f"{issuer}\x1f{patient_id}".encode()).hexdigest()


def _study(results: StudyResults, written: Sequence[WrittenObject]) -> Json:
    virtual = any(w.kind == "virtual_series" for w in written)
    return {
        "study_instance_uid": results.baseline.study_instance_uid,
        "patient_hash": patient_hash(results),
        "modality": results.baseline.primary.modality,
        "series": {str(v.phase): v.series_instance_uid for v in results.baseline.volumes},
        "marker_box": list(place_marker(results).box) if virtual else None,
    }


def _segmentation(results: StudyResults) -> Json:
    labels, grid = results.segmentation.labels, results.baseline.primary.grid
    voxels = int((labels.tissue != Tissue.BACKGROUND).sum())
    return {
        "liver_ml": round(voxels * grid.voxel_ml, 2),
        "lesions": [_lesion(m) for m in results.baseline_lesions],
    }


def _lesion(lesion: LesionMeasurement) -> Json:
    return {
        "id": lesion.lesion_id,
        "volume_ml": round(lesion.volume_ml, 2),
        "long_axis_mm": _length(lesion.long_axis.length_mm if lesion.long_axis else None),
        "short_axis_mm": _length(lesion.short_axis.length_mm if lesion.short_axis else None),
        "viable_ml": round(lesion.viable_ml, 2),
        "center_mm": [round(v, 2) for v in lesion.center_mm] if lesion.center_mm else None,
    }


def _length(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _clinical(results: StudyResults) -> Json:
    summary = results.clinical
    scores = {n: round(v, 4) if isinstance(v, float) else v for n, v in summary.scores.items()}
    return {
        "used": _used(summary.used),
        "missing": list(summary.missing),
        "scores": scores,
        "eligibility": dict(summary.eligibility),
    }


def _used(record: ClinicalRecord) -> Json:
    return {
        name: {"value": round(v.value, 4) if isinstance(v.value, float) else v.value, "unit": v.unit}
        for name, v in record.values.items()
    }


def _regimen(forecast: RegimenForecast, uids: SeriesOfPoints, primary: str) -> Json:
    survival = forecast.survival
    return {
        "id": forecast.regimen_id,
        "name": forecast.name,
        "time_points": _time_points(forecast, uids, primary),
        "os": _curve(survival.os),
        "pfs": _curve(survival.pfs),
        "ttp": _curve(survival.ttp),
    }


def _time_points(forecast: RegimenForecast, uids: SeriesOfPoints, primary: str) -> Json | list[Json]:
    if forecast.not_assessed is not None:
        return not_assessed_json(forecast.not_assessed)
    return [_time_point(p, uids.get(point_key(forecast, p), {}), primary) for p in forecast.time_points]


def _time_point(point: TimePoint, uids: Mapping[str, str], primary: str) -> Json:
    low, high = point.generated.viable_ml_interval80
    return {
        "months": point.generated.months,
        "kind": str(point.generated.kind),
        "series_instance_uid": uids.get(primary),
        "series_instance_uids": dict(uids),
        "recist11": _response(point.recist11),
        "mrecist": _response(point.mrecist),
        "viable_ml": round(point.viable_ml, 2),
        "interval80": [round(low, 2), round(high, 2)],
        "image_check": _image_check(point.image_check),
    }


def _image_check(check: ImageCheck | NotAssessed) -> Json:
    if isinstance(check, NotAssessed):
        return not_assessed_json(check)
    return {
        "dice": round(check.dice, 4),
        "baseline_dice": round(check.baseline_dice, 4),
        "tumour_ml": round(check.tumour_ml, 2),
        "recist11": _response(check.recist11),
    }


def _response(response: Response | NotAssessed) -> Json:
    if isinstance(response, NotAssessed):
        return not_assessed_json(response)
    return {
        "category": str(response.category),
        "sum_mm": round(response.sum_mm, 2),
        "change_pct": round(response.change_pct, 2),
    }


def _curve(curve: SurvivalCurve | NotAssessed) -> Json:
    if isinstance(curve, NotAssessed):
        return not_assessed_json(curve)
    at = {m: tuple(round(v, 4) for v in found) for m, found in curve.probabilities.items()}
    return {
        "months": [round(m, 2) for m in curve.months],
        "survival": [round(v, 4) for v in curve.survival],
        "lower": [round(v, 4) for v in curve.lower],
        "upper": [round(v, 4) for v in curve.upper],
        "p12": at[12][0] if 12 in at else None,
        "p24": at[24][0] if 24 in at else None,
        "p36": at[36][0] if 36 in at else None,
        **{f"p{m}_interval95": list(at[m][1:]) if m in at else None for m in HORIZONS_MONTHS},
        "median": _length(curve.median_months),
        "rmst36": _length(curve.rmst36),
        "risk_score": round(curve.risk_score, 4),
        "risk_group": curve.risk_group,
        "basis": _basis(curve.basis),
    }


def _basis(basis: SurvivalBasis | None) -> Json | None:
    if basis is None:
        return None
    parts = {"log_hazard": basis.log_hazard, "attention": basis.attention, "gates": basis.gates}
    told = {part: {n: round(v, 4) for n, v in values.items()} for part, values in parts.items()}
    return {**told, "networks": round(basis.networks, 4)}


def _virtual_uids(results: StudyResults, written: Sequence[WrittenObject]) -> SeriesOfPoints:
    """Return the Series Instance UIDs of the virtual series of each time point.

    `reporting.virtual_series` writes all series of one baseline volume before those of the next, each in
    the order of the time points.
    """
    series = list(dict.fromkeys(w.series_instance_uid for w in written if w.kind == "virtual_series"))
    drawn = [
        (point_key(forecast, point), str(volume.phase))
        for volume in results.baseline.volumes
        for forecast, point in time_points(results)
        if any(i.series_instance_uid == volume.series_instance_uid for i in point.generated.images)
    ]
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for (key, phase), uid in zip(drawn, series, strict=False):
        found[key][phase] = uid
    return found


def _objects(written: Sequence[WrittenObject]) -> list[Json]:
    """Return one entry for each series: its folder, and how many instances it has."""
    groups: dict[tuple[str, str, str], list[WrittenObject]] = defaultdict(list)
    for item in written:
        groups[(item.kind, item.sop_class_uid, item.series_instance_uid)].append(item)
    return [
        {
            "kind": kind,
            "sop_class_uid": sop_class,
            "series_instance_uid": series,
            "instances": len(items),
            "path": items[0].path.parent.as_posix(),
        }
        for (kind, sop_class, series), items in groups.items()
    ]
