"""The comparison of regimens for one patient, with its reasons.

The protocol prefers a regimen when it is expected to lengthen median survival by more than 3 months with a
confidence above 80 %. Here confidence is the calibrated probability, over the uncertainty of the parameters,
that the patient's median is so much longer than under the reference. In front of the rule stands a gate: the
regimens must have been shown to differ at all, patients like this one must have had either regimen, the
patient must lie within the cohort, each regimen needs enough deaths, and what a regimen is held against must
have its median within follow-up. What a hidden confounder would do cannot be seen in the data; it is printed
beside every benefit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from inference.comparison import burr, effects
from inference.comparison.judgement import NOBODY, Judgement, cut_benefit, judge
from inference.comparison.learned import LearnedComparison, RegimenData
from inference.comparison.results import Interval, PairBenefit, RegimenComparison, RegimenEstimate
from inference.comparison.sensitivity import e_value_of, hidden_confounding
from inference.results import FloatArray, NotAssessed, Reason

HORIZON_MONTHS = 36.0


def compare_patient(
    learned: LearnedComparison, values: Mapping[str, float | None]
) -> RegimenComparison | NotAssessed:
    """Compare the regimens for one patient.

    Parameters
    ----------
    values : mapping of str to float or None
        Covariates by name, in the units of the cohort; more than the cohort's may be there.

    Returns
    -------
    NotAssessed
        A covariate is missing.
    """
    missing = [name for name in learned.names if not _is_number(values.get(name))]
    if missing:
        return NotAssessed(
            Reason.CLINICAL_VALUES_MISSING,
            f"The regimens cannot be compared without {', '.join(missing)}.",
        )
    row = np.array([[float(values[name] or 0.0) for name in learned.names]])
    judged = judge(learned, row)
    regimens = _estimates(learned, judged)
    recommended, against = int(judged.recommended[0]), int(judged.against[0])
    chosen = recommended != NOBODY
    return RegimenComparison(
        regimens=regimens,
        pairs=_pairs(learned, judged),
        tests=learned.tests,
        rule=learned.rule,
        recommended=learned.regimens[recommended].regimen_id if chosen else None,
        against=learned.regimens[against].regimen_id if chosen else None,
        benefit_months=float(judged.pairs.benefit[0, recommended, against]) if chosen else None,
        confidence=float(judged.pairs.confidence[0, recommended, against]) if chosen else None,
        reasons=_reasons(learned, judged, row),
        notes=_notes(learned, judged),
    )


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _interval(draws: FloatArray) -> Interval:
    lower, middle, upper = np.quantile(draws, (0.025, 0.5, 0.975))
    return Interval(float(middle), float(lower), float(upper))


# ------------------------------------------------------------------ regimens and pairs


def _estimates(learned: LearnedComparison, judged: Judgement) -> tuple[RegimenEstimate, ...]:
    restricted = effects.restricted_means(judged.locations[0], learned.draws, HORIZON_MONTHS)
    compared = [
        RegimenEstimate(
            data.regimen_id, data.patients, data.events, float(judged.propensity[0, k]),
            data.follow_up_months,
            _beyond(data) if judged.beyond[0, k] else _interval(judged.medians[0, k]),
            _too_short(data) or _interval(restricted[k]),
        )
        for k, data in enumerate(learned.regimens)
    ]  # fmt: skip
    excluded = [
        RegimenEstimate(
            data.regimen_id, data.patients, data.events, None, data.follow_up_months,
            _too_few(data, learned), _too_few(data, learned),
        )
        for data in learned.excluded
    ]  # fmt: skip
    return (*compared, *excluded)


def _beyond(data: RegimenData) -> NotAssessed:
    return NotAssessed(
        Reason.BEYOND_FOLLOW_UP,
        f"The median under {data.regimen_id} lies beyond its follow-up of {data.follow_up_months:.0f} "
        f"months; the mean within {HORIZON_MONTHS:.0f} months is given where follow-up reaches so far.",
    )


def _too_short(data: RegimenData) -> NotAssessed | None:
    if data.follow_up_months >= HORIZON_MONTHS:
        return None
    return NotAssessed(
        Reason.BEYOND_FOLLOW_UP,
        f"The follow-up under {data.regimen_id} ends at {data.follow_up_months:.0f} months.",
    )


def _too_few(data: RegimenData, learned: LearnedComparison) -> NotAssessed:
    return NotAssessed(
        Reason.TOO_FEW_EVENTS,
        f"Under {data.regimen_id}, {data.events} deaths were seen in {data.patients} patients; "
        f"{learned.rule.least_events} are needed.",
    )


def _pairs(learned: LearnedComparison, judged: Judgement) -> tuple[PairBenefit, ...]:
    number = len(learned.regimens)
    return tuple(_pair(learned, judged, a, b) for a in range(number) for b in range(number) if a != b)


def _pair(learned: LearnedComparison, judged: Judgement, a: int, b: int) -> PairBenefit:
    first, second = learned.regimens[a], learned.regimens[b]
    refused = _pair_refusal(learned, judged, a, b)
    restricted = _restricted_difference(learned, judged, a, b)
    if refused is not None:
        return PairBenefit(first.regimen_id, second.regimen_id, refused, restricted, refused)
    better, worse = np.minimum(judged.medians[0, a], first.follow_up_months), judged.medians[0, b]
    benefit = _interval(cut_benefit(learned, judged.medians[0], a, b))
    # Of two regimens, only the one that seems better has a benefit that could be feigned.
    explained = benefit.estimate > 0
    asked = learned.rule.benefit_months
    return PairBenefit(
        first.regimen_id,
        second.regimen_id,
        benefit,
        restricted,
        float(judged.pairs.confidence[0, a, b]) if learned.passes else _no_effect(learned),
        e_value_of(_risk_ratios(learned, judged, a, b)),
        hidden_confounding(better, worse, asked, learned.confidence.one) if explained else (),
        at_least=bool(judged.beyond[0, a]),
    )


def _restricted_difference(
    learned: LearnedComparison, judged: Judgement, a: int, b: int
) -> Interval | NotAssessed:
    """Difference of the means within 36 months, which also stands where a median is beyond follow-up."""
    support = _support_refusal(learned, judged, a, b)
    short = _too_short(learned.regimens[a]) or _too_short(learned.regimens[b])
    if support is not None or short is not None:
        return support or short or _no_effect(learned)
    both = effects.restricted_means(judged.locations[0, [a, b]], learned.draws, HORIZON_MONTHS)
    return _interval(both[0] - both[1])


def _risk_ratios(learned: LearnedComparison, judged: Judgement, a: int, b: int) -> FloatArray:
    """Risk of death under a regimen relative to another, by the median of the worse one, (draws,)."""
    draws = learned.draws
    soonest = np.log(np.minimum(judged.medians[0, a], judged.medians[0, b]))
    died_a, died_b = (
        1.0 - burr.survival(soonest, judged.locations[0, k], draws.scale, draws.shape) for k in (a, b)
    )
    return np.asarray(died_a / died_b)


# ------------------------------------------------------------------ reasons


def _support_refusal(learned: LearnedComparison, judged: Judgement, a: int, b: int) -> NotAssessed | None:
    if judged.foreign[0]:
        return NotAssessed(
            Reason.OUT_OF_DISTRIBUTION,
            "The patient lies outside the cohort that the comparison was learned from.",
        )
    if not judged.pairs.overlapping[0, a, b]:
        first, second = learned.regimens[a].regimen_id, learned.regimens[b].regimen_id
        least = learned.rule.least_propensity
        chance = judged.propensity[0, a] / (judged.propensity[0, a] + judged.propensity[0, b])
        return NotAssessed(
            Reason.NO_OVERLAP,
            f"Of patients like this one who had {first} or {second}, {100 * chance:.0f} % had {first}; "
            f"outside {100 * least:.0f} to {100 * (1 - least):.0f} % the two cannot be compared.",
        )
    return None


def _pair_refusal(learned: LearnedComparison, judged: Judgement, a: int, b: int) -> NotAssessed | None:
    support = _support_refusal(learned, judged, a, b)
    if support is not None:
        return support
    return _beyond(learned.regimens[b]) if judged.beyond[0, b] else None


def _no_effect(learned: LearnedComparison) -> NotAssessed:
    tests = learned.tests
    return NotAssessed(
        Reason.NO_EFFECT_SHOWN,
        f"The cohort does not show that the regimens differ: p {tests.any_effect_p:.2g}, above "
        f"{learned.rule.any_effect_p:g} (average effect {tests.average_effect_p:.2g}, heterogeneity "
        f"{tests.heterogeneity_p:.2g}).",
    )


def _reasons(learned: LearnedComparison, judged: Judgement, row: FloatArray) -> tuple[NotAssessed, ...]:
    found = [] if learned.passes else [_no_effect(learned)]
    found += [_too_few(data, learned) for data in learned.excluded]
    if judged.foreign[0]:
        return (*found, _foreign(learned, row))
    pairs = [_pair_refusal(learned, judged, k, 0) for k in range(1, len(learned.regimens))]
    found += [reason for reason in pairs if reason is not None]
    return tuple(dict.fromkeys(found))


def _foreign(learned: LearnedComparison, row: FloatArray) -> NotAssessed:
    standard = learned.scaling.standard(row)[0]
    farthest = learned.names[int(np.argmax(np.abs(standard)))]
    return NotAssessed(
        Reason.OUT_OF_DISTRIBUTION,
        "The patient lies outside the cohort that the comparison was learned from; farthest from its mean is "
        f"{farthest}, by {np.abs(standard).max():.1f} standard deviations.",
    )


def _notes(learned: LearnedComparison, judged: Judgement) -> tuple[str, ...]:
    notes = []
    chosen = int(judged.recommended[0])
    if chosen == NOBODY:
        notes += _nearest_miss(learned, judged)
    else:
        notes += _not_told_apart(learned, judged, chosen)
    if learned.passes and learned.tests.heterogeneity_p > 0.05:
        notes.append(
            "The cohort does not show that regimens differ more for some patients than for others "
            f"(p {learned.tests.heterogeneity_p:.2g}); benefits in months still differ with the prognosis."
        )
    notes.append(
        "A confounder that was not measured cannot be seen in the data; E-values say how strong it would "
        "have to be."
    )
    return tuple(notes)


def _nearest_miss(learned: LearnedComparison, judged: Judgement) -> list[str]:
    usable = judged.pairs.usable[0, 1:, 0]
    if not learned.passes or not usable.any():
        return []
    k = 1 + int(np.argmax(np.where(usable, judged.pairs.benefit[0, 1:, 0], -np.inf)))
    first, reference, rule = learned.regimens[k].regimen_id, learned.regimens[0].regimen_id, learned.rule
    benefit, confidence = judged.pairs.benefit[0, k, 0], judged.pairs.confidence[0, k, 0]
    words = (
        f"The rule is not met: {first} against {reference} is estimated at {benefit:+.1f} months, with a "
        f"confidence of {100 * confidence:.0f} % that it is more than {rule.benefit_months:g}; "
        f"{100 * rule.confidence:.0f} % are asked."
    )
    return [words]


def _not_told_apart(learned: LearnedComparison, judged: Judgement, chosen: int) -> list[str]:
    """Name regimens that also beat the reference and are not beaten by the chosen one."""
    rule, notes = learned.rule, []
    for k in range(1, len(learned.regimens)):
        rival = (
            k != chosen
            and judged.pairs.usable[0, k, 0]
            and judged.pairs.confidence[0, k, 0] >= rule.confidence
        )
        if chosen != 0 and rival and judged.pairs.confidence[0, chosen, k] < rule.confidence:
            notes.append(
                f"{learned.regimens[k].regimen_id} also meets the rule and cannot be told apart from "
                f"{learned.regimens[chosen].regimen_id}."
            )
    return notes
