"""The ``report``: everything that was measured and predicted, as groups of TID 1501.

A lesion at a time point, the response at a time point, the prognosis under a regimen, the comparison and
each second opinion are groups of their own. What is text or not assessed, and the clinical values, stand
under Qualitative Evaluations (TID 1500 row 12), each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from inference.results import (
    LesionMeasurement,
    NotAssessed,
    RegimenForecast,
    Response,
    StudyResults,
    SurvivalCurve,
)
from reporting import codes
from reporting.common import SeriesOfNode, change_pct
from reporting.context import Context
from reporting.report_comparison import comparison_groups
from reporting.report_opinions import opinion_groups
from reporting.report_parts import Group, measured, reason, tracking
from reporting.report_text import text_items
from reporting.structured import (
    KeySlices,
    Moment,
    dated_time_point_context,
    document,
    finding_sites,
    group_algorithm,
    measurement_report,
    moments,
    regimen_evaluation,
)

SERIES_NUMBER = 9801


def build(results: StudyResults, context: Context) -> Iterator[Dataset]:
    """Yield the report."""
    slices = KeySlices(results, context)
    key_slice = _largest_slice(results)
    slices.of(moments(results)[0], key_slice)
    groups: list[Group] = []
    for moment in moments(results):
        groups += [_lesion_group(results, context, slices, moment, lesion) for lesion in moment.lesions]
        groups += _response_groups(results, context, slices, moment)
    groups += [_refused_group(context, f, f.not_assessed) for f in results.forecasts if f.not_assessed]
    for forecast in results.forecasts:
        groups += _prognosis_groups(results, context, forecast)
    groups += comparison_groups(results, context)
    groups += opinion_groups(results, context)
    images = slices.all()
    root = measurement_report(results, context, codes.ONCOLOGY_MEASUREMENT_REPORT, groups, images[:1])
    root.ContentSequence.append(text_items(results))
    series = SeriesOfNode(
        context.uids.derive("report series"), SERIES_NUMBER, "AI VIRTUAL follow-up report (SR)"
    )
    yield document(results, context, root, images, series, context.uids.derive("report"))


def _largest_slice(results: StudyResults) -> int:
    axes = [m.long_axis for m in results.baseline_lesions if m.long_axis is not None]
    if axes:
        return max(axes, key=lambda axis: axis.length_mm).slice_index
    return len(results.baseline.primary.headers) // 2


# ------------------------------------------------------------------ lesions


def _lesion_group(
    results: StudyResults, context: Context, slices: KeySlices, moment: Moment, lesion: LesionMeasurement
) -> Group:
    before = {m.lesion_id: m for m in results.baseline_lesions}.get(lesion.lesion_id)
    measurements = [
        measured(codes.VOLUME, lesion.volume_ml, codes.ML, codes.SUM_OF_VOXELS),
        measured(codes.VIABLE_VOLUME, lesion.viable_ml, codes.ML, codes.SUM_OF_VOXELS),
    ]
    for concept, axis in (
        (codes.LONG_AXIS, lesion.long_axis),
        (codes.SHORT_AXIS, lesion.short_axis),
        (codes.VIABLE_LONG_AXIS, lesion.viable_long_axis),
        (codes.VIABLE_SHORT_AXIS, lesion.viable_short_axis),
    ):
        if axis is not None:
            measurements.append(measured(concept, axis.length_mm, codes.MM))
    if moment.point is not None and before is not None:
        measurements += _changes(lesion, before)
    source = [slices.of(moment, lesion.long_axis.slice_index)] if lesion.long_axis is not None else []
    return Group(
        tracking_identifier=tracking(context, lesion.lesion_id),
        time_point_context=dated_time_point_context(moment),
        finding_type=codes.LIVER_CELL_CARCINOMA,
        finding_sites=finding_sites(),
        measurements=measurements,
        qualitative_evaluations=_regimen(moment),
        source_images=[sr.SourceImageForMeasurementGroup.from_source_image(s) for s in source] or None,
    )


def _changes(lesion: LesionMeasurement, before: LesionMeasurement) -> list[sr.Measurement]:
    found = (
        (codes.CHANGE_OF_VOLUME, change_pct(lesion.volume_ml, before.volume_ml)),
        (codes.CHANGE_OF_VIABLE_VOLUME, change_pct(lesion.viable_ml, before.viable_ml)),
    )
    return [measured(concept, value, codes.PERCENT) for concept, value in found if value is not None]


# ------------------------------------------------------------------ response


def _response_groups(
    results: StudyResults, context: Context, slices: KeySlices, moment: Moment
) -> list[Group]:
    if moment.point is None:
        return []
    point = moment.point
    low, high = point.generated.viable_ml_interval80
    before = sum(m.viable_ml for m in results.baseline_lesions)
    burden = [
        measured(codes.VIABLE_VOLUME, point.viable_ml, codes.ML, codes.SUM_OF_VOXELS),
        measured(codes.VIABLE_VOLUME, low, codes.ML, derivation=codes.LOWER_80),
        measured(codes.VIABLE_VOLUME, high, codes.ML, derivation=codes.UPPER_80),
    ]
    change = change_pct(point.viable_ml, before)
    if change is not None:
        burden.append(measured(codes.CHANGE_OF_VIABLE_VOLUME, change, codes.PERCENT))
    groups = [_burden_group(context, moment, burden)]
    for name, method, response in (
        ("RECIST 1.1", codes.RECIST_11, point.recist11),
        ("mRECIST", codes.MRECIST, point.mrecist),
    ):
        groups.append(_response_group(context, moment, name, method, response))
    return groups


def _burden_group(context: Context, moment: Moment, measurements: list[sr.Measurement]) -> Group:
    return Group(
        tracking_identifier=tracking(context, "Total burden"),
        time_point_context=dated_time_point_context(moment),
        finding_type=codes.WHOLE_LIVER,
        finding_sites=finding_sites(),
        measurements=measurements,
        qualitative_evaluations=_regimen(moment),
    )


def _response_group(
    context: Context, moment: Moment, name: str, method: Code, response: Response | NotAssessed
) -> Group:
    evaluations = [*(_regimen(moment) or []), sr.QualitativeEvaluation(codes.RESPONSE_METHOD, method)]
    measurements = None
    if isinstance(response, NotAssessed):
        evaluations.append(sr.QualitativeEvaluation(codes.CURRENT_RESPONSE, codes.NOT_ASSESSED))
        evaluations.append(reason(response))
    else:
        evaluations.append(
            sr.QualitativeEvaluation(codes.CURRENT_RESPONSE, codes.RESPONSE[response.category])
        )
        measurements = [
            measured(codes.SUM_OF_DIAMETERS, response.sum_mm, codes.MM),
            measured(codes.CHANGE_OF_SUM, response.change_pct, codes.PERCENT),
        ]
    return Group(
        tracking_identifier=tracking(context, f"Response {name}"),
        time_point_context=dated_time_point_context(moment),
        finding_type=codes.WHOLE_LIVER,
        finding_sites=finding_sites(),
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )


def _refused_group(context: Context, forecast: RegimenForecast, refusal: NotAssessed) -> Group:
    """Return the group of a regimen under which no follow-up was drawn."""
    return Group(
        tracking_identifier=tracking(context, f"Follow-up {forecast.regimen_id}"),
        finding_type=codes.WHOLE_LIVER,
        finding_sites=finding_sites(),
        qualitative_evaluations=[
            regimen_evaluation(forecast),
            sr.QualitativeEvaluation(codes.PREDICTED_FOLLOW_UP, codes.NOT_ASSESSED),
            reason(refusal),
        ],
    )


# ------------------------------------------------------------------ survival


def _prognosis_groups(results: StudyResults, context: Context, forecast: RegimenForecast) -> list[Group]:
    survival = forecast.survival
    return [
        _prognosis(results, context, forecast, endpoint, curve)
        for endpoint, curve in (("os", survival.os), ("pfs", survival.pfs), ("ttp", survival.ttp))
    ]


def _prognosis(
    results: StudyResults,
    context: Context,
    forecast: RegimenForecast,
    endpoint: str,
    curve: SurvivalCurve | NotAssessed,
) -> Group:
    evaluations = [regimen_evaluation(forecast)]
    measurements = None
    algorithm = None
    if isinstance(curve, NotAssessed):
        evaluations.append(sr.QualitativeEvaluation(codes.endpoint_assessment(endpoint), codes.NOT_ASSESSED))
        evaluations.append(reason(curve))
    else:
        measurements = _curve_measurements(endpoint, curve)
        algorithm = group_algorithm(results, "survival")
        if curve.median_months is None:
            evaluations.append(sr.QualitativeEvaluation(codes.MEDIAN_STATE, codes.MEDIAN_NOT_REACHED))
        group = codes.RISK_GROUPS.get(curve.risk_group)
        if group is not None:
            evaluations.append(sr.QualitativeEvaluation(codes.RISK_GROUP, group))
    return Group(
        tracking_identifier=tracking(context, f"Prognosis {endpoint} {forecast.regimen_id}"),
        finding_type=codes.PROGNOSIS,
        algorithm_id=algorithm,
        measurements=measurements,
        qualitative_evaluations=evaluations,
    )


def _curve_measurements(endpoint: str, curve: SurvivalCurve) -> list[sr.Measurement]:
    found = []
    for months, estimates in sorted(curve.probabilities.items()):
        for value, derivation in zip(
            estimates, (codes.ESTIMATED, codes.LOWER_95, codes.UPPER_95), strict=True
        ):
            found.append(
                sr.Measurement(
                    name=codes.survival_at(endpoint, months),
                    value=round(value, 4),
                    unit=codes.ONE,
                    derivation=derivation,
                    method=codes.MODEL_PREDICTION,
                )
            )
    for concept, months_value in (
        (codes.MEDIAN_SURVIVAL, curve.median_months),
        (codes.RMST36, curve.rmst36),
    ):
        if months_value is not None:
            found.append(measured(concept, months_value, codes.MONTH, codes.MODEL_PREDICTION))
    # Says why later probabilities, and a mean over 36 months, are not there.
    found.append(measured(codes.FOLLOW_UP_END, curve.months[-1], codes.MONTH))
    found.append(sr.Measurement(name=codes.RISK_SCORE, value=round(curve.risk_score, 4), unit=codes.ONE))
    return found


def _regimen(moment: Moment) -> list[sr.QualitativeEvaluation] | None:
    return [regimen_evaluation(moment.forecast)] if moment.forecast is not None else None
