"""The comparison of regimens in the ``report``: what is preferred, every regimen, and every pair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from highdicom import sr
from pydicom.sr.coding import Code

from inference.comparison.results import Interval, PairBenefit, RegimenComparison, RegimenEstimate
from inference.results import Comparison, NotAssessed, StudyResults
from reporting import codes
from reporting.comparison_words import name_of, regimen_names
from reporting.context import Context
from reporting.report_parts import Group, measured, reason, share, tracking
from reporting.structured import group_algorithm


def comparison_groups(results: StudyResults, context: Context) -> list[Group]:
    """Return the group of the recommendation, and where regimens were compared one for each and each pair."""
    groups = [_recommendation(results, context)]
    behind = results.regimen_comparison
    if behind is not None:
        algorithm = group_algorithm(results, "comparison") if "comparison" in results.bundles else None
        names = regimen_names(results)
        groups += [_regimen(context, e, names, algorithm) for e in behind.regimens]
        groups += [_pair(context, behind, p, names, algorithm) for p in behind.pairs]
    return groups


def _recommendation(results: StudyResults, context: Context) -> Group:
    comparison, behind = results.comparison, results.regimen_comparison
    measurements = []
    if isinstance(comparison, NotAssessed):
        evaluations = [
            sr.QualitativeEvaluation(codes.RECOMMENDED_REGIMEN, codes.NOT_ASSESSED),
            reason(comparison),
        ]
    else:
        evaluations = [sr.QualitativeEvaluation(codes.RECOMMENDED_REGIMEN, _recommended(results, comparison))]
        if comparison.benefit_months is not None:
            measurements.append(measured(codes.BENEFIT, comparison.benefit_months, codes.MONTH))
        if comparison.confidence is not None:
            asked = 3.0 if behind is None else behind.rule.benefit_months
            measurements.append(share(codes.confidence(asked), comparison.confidence))
    return Group(
        tracking_identifier=tracking(context, "Comparison"),
        finding_type=codes.COMPARISON,
        measurements=measurements or None,
        qualitative_evaluations=evaluations,
    )


def _recommended(results: StudyResults, comparison: Comparison) -> Code:
    for forecast in results.forecasts:
        if forecast.regimen_id == comparison.recommended:
            return codes.regimen(forecast.regimen_id, forecast.name)
    return codes.NO_REGIMEN


def _regimen(
    context: Context,
    estimate: RegimenEstimate,
    names: Mapping[str, str],
    algorithm: sr.AlgorithmIdentification | None,
) -> Group:
    evaluations = [_coded(codes.REGIMEN, estimate.regimen_id, names)]
    found = [
        *_interval(codes.MEDIAN_SURVIVAL, estimate.median_months),
        *_interval(codes.RMST36, estimate.rmst36),
    ]
    if estimate.propensity is not None:
        found.append(share(codes.PROPENSITY, estimate.propensity))
    if isinstance(estimate.median_months, NotAssessed):
        evaluations.append(sr.QualitativeEvaluation(codes.MEDIAN_STATE, codes.NOT_ASSESSED))
        evaluations.append(reason(estimate.median_months))
    return Group(
        tracking_identifier=tracking(context, f"Compared {estimate.regimen_id}"),
        finding_type=codes.COMPARISON,
        algorithm_id=algorithm,
        measurements=found or None,
        qualitative_evaluations=evaluations,
    )


def _pair(
    context: Context,
    comparison: RegimenComparison,
    pair: PairBenefit,
    names: Mapping[str, str],
    algorithm: sr.AlgorithmIdentification | None,
) -> Group:
    evaluations = [
        _coded(codes.REGIMEN, pair.regimen_id, names),
        _coded(codes.HELD_AGAINST, pair.against, names),
    ]
    if pair.at_least:
        evaluations.append(sr.QualitativeEvaluation(codes.BENEFIT_STATE, codes.LOWER_BOUND))
    found = [
        *_interval(codes.BENEFIT, pair.benefit_months),
        *_interval(codes.RMST36_DIFFERENCE, pair.rmst36_difference),
    ]
    if not isinstance(pair.confidence, NotAssessed):
        found.append(share(codes.confidence(comparison.rule.benefit_months), pair.confidence))
    if pair.e_value is not None:
        found.append(measured(codes.E_VALUE, pair.e_value.of_estimate, codes.ONE))
        found.append(measured(codes.E_VALUE_OF_LIMIT, pair.e_value.of_limit, codes.ONE))
    evaluations += _refused(pair)
    return Group(
        tracking_identifier=tracking(context, f"Compared {pair.regimen_id} against {pair.against}"),
        finding_type=codes.COMPARISON,
        algorithm_id=algorithm,
        measurements=found or None,
        qualitative_evaluations=evaluations,
    )


def _refused(pair: PairBenefit) -> Iterator[sr.QualitativeEvaluation]:
    """Yield why the benefit, or only its confidence, was not assessed."""
    for refusal in (pair.benefit_months, pair.confidence):
        if isinstance(refusal, NotAssessed):
            yield sr.QualitativeEvaluation(codes.BENEFIT_STATE, codes.NOT_ASSESSED)
            yield reason(refusal)
            return


def _coded(concept: Code, regimen_id: str, names: Mapping[str, str]) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(concept, codes.regimen(regimen_id, name_of(regimen_id, names)))


def _interval(concept: Code, value: Interval | NotAssessed) -> Iterator[sr.Measurement]:
    if isinstance(value, NotAssessed):
        return
    for number, derivation in (
        (value.estimate, codes.ESTIMATED),
        (value.lower, codes.LOWER_95),
        (value.upper, codes.UPPER_95),
    ):
        yield measured(concept, number, codes.MONTH, derivation=derivation)
