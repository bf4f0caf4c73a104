"""What people read of the comparison of regimens: the same words in the picture, the PDF and the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from inference.comparison.results import Interval, PairBenefit, RegimenComparison, RegimenEstimate
from inference.results import NotAssessed, StudyResults


def regimen_names(results: StudyResults) -> dict[str, str]:
    """Return the short name of each regimen of the forecast by its identifier."""
    return {forecast.regimen_id: forecast.name for forecast in results.forecasts}


def name_of(regimen_id: str, names: Mapping[str, str]) -> str:
    """Return the short name of a regimen; one that the forecast does not have is shown as it is."""
    return names.get(regimen_id, regimen_id)


def named(words: str, names: Mapping[str, str]) -> str:
    """Write names of regimens in place of their identifiers."""
    if not names:
        return words
    longest_first = "|".join(re.escape(key) for key in sorted(names, key=len, reverse=True))
    return re.sub(rf"\b({longest_first})\b", lambda match: names[match.group(1)], words)


def percent(confidence: float) -> str:
    """Return a probability in words; the ends are never shown as certain."""
    if confidence > 0.99:
        return "> 99 %"
    return "< 1 %" if confidence < 0.01 else f"{100 * confidence:.0f} %"


def verdict(comparison: RegimenComparison, names: Mapping[str, str]) -> str:
    """Say which regimen is preferred to which, or that none is."""
    if comparison.recommended is None or comparison.against is None:
        return "No regimen is preferred."
    pair = comparison.pair(comparison.recommended, comparison.against)
    words = "at least " if pair.at_least else ""
    return (
        f"Longer expected survival under {name_of(comparison.recommended, names)} than under "
        f"{name_of(comparison.against, names)}: by {words}{comparison.benefit_months:.1f} months, confidence "
        f"{percent(comparison.confidence or 0.0)}."
    )


def e_value_words(pair: PairBenefit) -> str:
    """Say how strong a confounder that was overlooked would have to be; nothing without a benefit."""
    if pair.e_value is None:
        return ""
    return (
        f"E-value {pair.e_value.of_estimate:.1f} (limit {pair.e_value.of_limit:.1f}): so strongly would "
        "a hidden confounder have to be tied to regimen and death to explain the benefit away."
    )


def hidden_confounding(pair: PairBenefit) -> str:
    """Say how much a confounder that was overlooked would take away; nothing without a benefit."""
    if not pair.hidden:
        return ""
    worst = min(pair.hidden, key=lambda h: h.benefit_months)
    return (
        f"A trait with which patients live {worst.time_ratio:g} times as long, "
        f"{100 * worst.imbalance:.0f} points more frequent under this regimen, would leave "
        f"{worst.benefit_months:+.1f} months at a confidence of {percent(worst.confidence)}."
    )


def regimen_rows(comparison: RegimenComparison, names: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield name, patients, deaths, share of such patients, median and mean survival of each regimen."""
    for estimate in comparison.regimens:
        share = "-" if estimate.propensity is None else f"{100 * estimate.propensity:.0f} %"
        yield (
            name_of(estimate.regimen_id, names),
            f"{estimate.patients}",
            f"{estimate.events}",
            share,
            _months(estimate.median_months),
            _months(estimate.rmst36),
        )


def pair_rows(comparison: RegimenComparison, names: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield each regimen against each other: benefit, difference of means, confidence, E-value."""
    for pair in comparison.pairs:
        at_least = "at least " if pair.at_least else ""
        confidence = pair.confidence if isinstance(pair.confidence, NotAssessed) else percent(pair.confidence)
        e_value = pair.e_value
        yield (
            name_of(pair.regimen_id, names),
            name_of(pair.against, names),
            at_least + _difference(pair.benefit_months),
            _difference(pair.rmst36_difference),
            "not assessed" if isinstance(confidence, NotAssessed) else confidence,
            "-" if e_value is None else f"{e_value.of_estimate:.1f} ({e_value.of_limit:.1f})",
        )


def refused_parts(
    comparison: RegimenComparison, names: Mapping[str, str]
) -> Iterator[tuple[str, NotAssessed]]:
    """Yield every regimen and pair that was not assessed, with its reason."""
    for estimate in comparison.regimens:
        for refusal in _refusals(estimate):
            yield f"{name_of(estimate.regimen_id, names)} in the comparison", refusal
    for pair in comparison.pairs:
        if isinstance(pair.benefit_months, NotAssessed):
            first, second = name_of(pair.regimen_id, names), name_of(pair.against, names)
            yield f"{first} against {second}", pair.benefit_months


def _refusals(estimate: RegimenEstimate) -> Iterator[NotAssessed]:
    if isinstance(estimate.median_months, NotAssessed):
        yield estimate.median_months


def _months(value: Interval | NotAssessed) -> str:
    if isinstance(value, NotAssessed):
        return "not assessed"
    return f"{value.estimate:.1f} ({value.lower:.1f} to {value.upper:.1f})"


def _difference(value: Interval | NotAssessed) -> str:
    if isinstance(value, NotAssessed):
        return "not assessed"
    return f"{value.estimate:+.1f} ({value.lower:+.1f} to {value.upper:+.1f})"
