"""The comparison of regimens and the second opinions as parts of ``result.json``."""

from __future__ import annotations

from typing import Any, TypeAlias

from inference.comparison.results import Interval, PairBenefit, RegimenComparison, RegimenEstimate
from inference.results import BundleInfo, Comparison, NotAssessed, OpinionValue, SecondOpinion, StudyResults

Json: TypeAlias = dict[str, Any]


def bundle_json(info: BundleInfo) -> Json:
    """Return what a model is."""
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "trained_on": info.trained_on,
    }


def not_assessed_json(refusal: NotAssessed) -> Json:
    """Return a refusal."""
    return {"assessed": False, "reason": f"{refusal.reason}: {refusal.detail}"}


def opinion_json(opinion: SecondOpinion) -> Json:
    """Return a second opinion; its pictures are in the PDF."""
    values = opinion.values
    output: Any = (
        not_assessed_json(values) if isinstance(values, NotAssessed) else [_value(v) for v in values]
    )
    return {
        "model": opinion.system,
        "about": opinion.about,
        "regimen": opinion.regimen_id,
        "bundle": bundle_json(opinion.bundle),
        "output": output,
        "pictures": [picture.title for picture in opinion.pictures]
        + ([opinion.nomogram.title] if opinion.nomogram is not None else []),
    }


def _value(value: OpinionValue) -> Json:
    number = value.value if isinstance(value.value, str) else float(f"{value.value:.6g}")
    limits = None if value.interval95 is None else [float(f"{limit:.6g}") for limit in value.interval95]
    return {"name": value.name, "value": number, "unit": value.unit, "interval95": limits}


def comparison_json(results: StudyResults) -> Json:
    """Return what is preferred and why not more, and every regimen and pair behind it."""
    return {**_said(results), **_behind(results.regimen_comparison)}


def _said(results: StudyResults) -> Json:
    comparison = results.comparison
    if isinstance(comparison, Comparison):
        return {
            "recommended": comparison.recommended,
            "benefit_months": _rounded(comparison.benefit_months, 2),
            "confidence": _rounded(comparison.confidence, 4),
            "reasons": list(comparison.reasons),
            "demonstration": comparison.demonstration,
        }
    return {
        "recommended": None,
        "benefit_months": None,
        "confidence": None,
        "reasons": [f"{comparison.reason}: {comparison.detail}"],
        "demonstration": results.demonstration,
    }


def _behind(found: RegimenComparison | None) -> Json:
    if found is None:
        return {"against": None, "rule": None, "tests": None, "regimens": [], "pairs": []}
    return {
        "against": found.against,
        "rule": {"benefit_months": found.rule.benefit_months, "confidence": found.rule.confidence},
        "tests": {
            "any_effect_p": float(f"{found.tests.any_effect_p:.4g}"),
            "average_effect_p": float(f"{found.tests.average_effect_p:.4g}"),
            "heterogeneity_p": float(f"{found.tests.heterogeneity_p:.4g}"),
        },
        "regimens": [_regimen(estimate) for estimate in found.regimens],
        "pairs": [_pair(pair) for pair in found.pairs],
    }


def _regimen(estimate: RegimenEstimate) -> Json:
    return {
        "id": estimate.regimen_id,
        "patients": estimate.patients,
        "events": estimate.events,
        "propensity": _rounded(estimate.propensity, 4),
        "follow_up_months": round(estimate.follow_up_months, 2),
        "median_months": _interval(estimate.median_months),
        "rmst36": _interval(estimate.rmst36),
    }


def _pair(pair: PairBenefit) -> Json:
    confidence = pair.confidence
    e_value = pair.e_value
    return {
        "id": pair.regimen_id,
        "against": pair.against,
        "benefit_months": _interval(pair.benefit_months),
        "at_least": pair.at_least,
        "rmst36_difference": _interval(pair.rmst36_difference),
        "confidence": not_assessed_json(confidence)
        if isinstance(confidence, NotAssessed)
        else round(confidence, 4),
        "e_value": None
        if e_value is None
        else {"estimate": round(e_value.of_estimate, 2), "limit": round(e_value.of_limit, 2)},
        "hidden_confounding": [
            {
                "time_ratio": hidden.time_ratio,
                "imbalance": hidden.imbalance,
                "benefit_months": round(hidden.benefit_months, 2),
                "confidence": round(hidden.confidence, 4),
            }
            for hidden in pair.hidden
        ],
    }


def _interval(value: Interval | NotAssessed) -> Json:
    if isinstance(value, NotAssessed):
        return not_assessed_json(value)
    return {
        "estimate": round(value.estimate, 2),
        "lower": round(value.lower, 2),
        "upper": round(value.upper, 2),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
