"""``result.json``: the forecast as one document for programs, schema 1."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.results import (
    BundleInfo,
    Comparison,
    LesionMeasurement,
    NotAssessed,
    RegimenForecast,
    Response,
    StudyResults,
    SurvivalCurve,
    TimePoint,
    Tissue,
)
from reporting.outputs import VirtualPart, WrittenObject

SCHEMA = 1

Document = dict[str, Any]
SeriesOfTimePoints = Mapping[tuple[str, float, str], Sequence[tuple[VirtualPart, str]]]
"""(regimen, months, kind) -> its virtual series, as (part, Series Instance UID)."""


def result_document(results: StudyResults, written: Sequence[WrittenObject], *, report_s: float) -> Document:
    """Return the document of one forecast.

    Parameters
    ----------
    results : StudyResults
    written : sequence of WrittenObject
        What `reporting.outputs.write_objects` returned.
    report_s : float
        Time spent on building and writing the objects, in seconds.
    """
    series = _virtual_series(written)
    return {
        "schema": SCHEMA,
        "study": _study(results, written),
        "bundles": {name: _bundle(info) for name, info in results.bundles.items()},
        "seed": results.seed,
        "timings_s": _timings(results, report_s),
        "segmentation": {
            "liver_ml": _number(_liver_ml(results)),
            "lesions": [_lesion(lesion) for lesion in results.baseline_lesions],
        },
        "clinical": {
            "used": {name: _clinical(v.value, v.unit) for name, v in results.clinical.used.values.items()},
            "missing": list(results.clinical.missing),
            "scores": dict(results.clinical.scores),
            "eligibility": dict(results.clinical.eligibility),
        },
        "regimens": [_regimen(forecast, series) for forecast in results.forecasts],
        "second_opinions": [],
        "comparison": _comparison(results),
        "demonstration": results.demonstration,
        "warnings": [*results.baseline.warnings, *results.segmentation.warnings],
        "objects": _objects(written),
    }


def _number(value: float | None) -> float | None:
    """Return a number that JSON can hold, rounded to what was measured."""
    return None if value is None or not math.isfinite(value) else round(float(value), 4)


def _not_assessed(refusal: NotAssessed) -> Document:
    return {"assessed": False, "reason": str(refusal.reason), "detail": refusal.detail}


# ------------------------------------------------------------------ study


def _study(results: StudyResults, written: Sequence[WrittenObject]) -> Document:
    primary = results.baseline.primary
    box = next((w.part.marker_box for w in written if w.part is not None), None)
    return {
        "study_instance_uid": results.baseline.study_instance_uid,
        "patient_hash": patient_hash(results),
        "modality": primary.modality,
        "series": {str(v.phase): v.series_instance_uid for v in results.baseline.volumes},
        "primary": str(primary.phase),
        "marker_box": None if box is None else list(box),
    }


def patient_hash(results: StudyResults) -> str | None:
    """Return sha256 of issuer and Patient ID, or None where the ID is empty: then nobody is known."""
    header = results.baseline.primary.headers[0]
    issuer, patient = (
        str(header.get(keyword, "") or "").strip() for keyword in ("IssuerOfPatientID", "PatientID")
    )
    return hashlib.sha256(f"{issuer}\x1f{patient}".encode()).hexdigest() if patient else None


def _bundle(info: BundleInfo) -> Document:
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "trained_on": info.trained_on,
    }


def _timings(results: StudyResults, report_s: float) -> Document:
    found = {name: round(seconds, 3) for name, seconds in results.timings_s.items()}
    found["report"] = round(report_s, 3)
    found["total"] = round(sum(results.timings_s.values()) + report_s, 3)
    return found


def _liver_ml(results: StudyResults) -> float:
    tissue = results.segmentation.labels.tissue
    return float((tissue != Tissue.BACKGROUND).sum()) * results.baseline.primary.grid.voxel_ml


def _lesion(lesion: LesionMeasurement) -> Document:
    center = lesion.center_mm
    return {
        "id": lesion.lesion_id,
        "volume_ml": _number(lesion.volume_ml),
        "long_axis_mm": _number(lesion.long_axis.length_mm if lesion.long_axis else None),
        "short_axis_mm": _number(lesion.short_axis.length_mm if lesion.short_axis else None),
        "viable_ml": _number(lesion.viable_ml),
        "center_mm": None if center is None else [_number(c) for c in center],
    }


def _clinical(value: float | str | bool, unit: str) -> Document:
    return {"value": value, "unit": unit}


# ------------------------------------------------------------------ regimens


def _regimen(forecast: RegimenForecast, series: SeriesOfTimePoints) -> Document:
    return {
        "id": forecast.regimen_id,
        "name": forecast.name,
        "time_points": [_time_point(forecast, point, series) for point in forecast.time_points],
        "os": _curve(forecast.survival.os),
        "pfs": _curve(forecast.survival.pfs),
        "ttp": _curve(forecast.survival.ttp),
    }


def _time_point(forecast: RegimenForecast, point: TimePoint, series: SeriesOfTimePoints) -> Document:
    generated = point.generated
    key = (forecast.regimen_id, generated.months, str(generated.kind))
    of_point = series.get(key, ())
    return {
        "months": generated.months,
        "kind": str(generated.kind),
        "series_instance_uid": next((uid for part, uid in of_point if part.primary), None),
        "series_instance_uids": {part.phase: uid for part, uid in of_point},
        "recist11": _response(point.recist11),
        "mrecist": _response(point.mrecist),
        "viable_ml": _number(point.viable_ml),
        "interval80": [_number(limit) for limit in generated.viable_ml_interval80],
        "lesions": [_lesion(lesion) for lesion in point.lesions],
    }


def _response(response: Response | NotAssessed) -> Document:
    if isinstance(response, NotAssessed):
        return _not_assessed(response)
    return {
        "category": str(response.category),
        "sum_mm": _number(response.sum_mm),
        "change_pct": _number(response.change_pct),
        "target_lesions": list(response.target_lesion_ids),
    }


def _curve(curve: SurvivalCurve | NotAssessed) -> Document:
    if isinstance(curve, NotAssessed):
        return _not_assessed(curve)
    found: Document = {
        "months": [_number(v) for v in curve.months],
        "survival": [_number(v) for v in curve.survival],
        "lower": [_number(v) for v in curve.lower],
        "upper": [_number(v) for v in curve.upper],
    }
    for months in (12, 24, 36):
        limits = curve.probabilities.get(months)
        found[f"p{months}"] = None if limits is None else _number(limits[0])
        found[f"p{months}_limits95"] = None if limits is None else [_number(v) for v in limits[1:]]
    found["median"] = _number(curve.median_months)
    found["rmst36"] = _number(curve.rmst36)
    found["risk_score"] = _number(curve.risk_score)
    found["risk_group"] = curve.risk_group
    return found


def _comparison(results: StudyResults) -> Document:
    comparison: Comparison | NotAssessed = results.comparison
    if isinstance(comparison, NotAssessed):
        return {
            "recommended": None,
            "benefit_months": None,
            "confidence": None,
            "reasons": [comparison.detail],
            "demonstration": results.demonstration,
            **_not_assessed(comparison),
        }
    return {
        "recommended": comparison.recommended,
        "benefit_months": _number(comparison.benefit_months),
        "confidence": _number(comparison.confidence),
        "reasons": list(comparison.reasons),
        "demonstration": comparison.demonstration,
    }


# ------------------------------------------------------------------ objects


def _virtual_series(written: Iterable[WrittenObject]) -> SeriesOfTimePoints:
    found: dict[tuple[str, float, str], dict[str, VirtualPart]] = {}
    for w in written:
        if w.part is not None:
            key = (w.part.regimen_id, w.part.months, w.part.kind)
            found.setdefault(key, {})[w.series_instance_uid] = w.part
    return {key: [(part, uid) for uid, part in of_key.items()] for key, of_key in found.items()}


def _objects(written: Sequence[WrittenObject]) -> list[Document]:
    """Return one row for each series; its path is relative to the folder of ``result.json``."""
    instances: dict[tuple[str, str, str], list[Path]] = {}
    for w in written:
        instances.setdefault((w.kind, w.sop_class_uid, w.series_instance_uid), []).append(w.path)
    return [
        {
            "kind": kind,
            "sop_class_uid": sop_class,
            "series_instance_uid": series,
            "instances": len(paths),
            "path": "/".join(paths[0].parts[-3:-1]),
        }
        for (kind, sop_class, series), paths in instances.items()
    ]
