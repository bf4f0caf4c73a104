from dataclasses import replace

import numpy as np
import pytest

from inference.comparison.benchmark_cohort import draw_replicate, load_benchmark
from inference.comparison.confidence import IDENTITY
from inference.comparison.engine import compare_patient
from inference.comparison.judgement import NOBODY, judge
from inference.comparison.learned import LearnedComparison, among, learn
from inference.comparison.results import RegimenComparison
from inference.comparison.rule import ComparisonRule
from inference.randomness import RandomStreams
from inference.results import NotAssessed, Reason

RULE = ComparisonRule(draws=400)
STREAMS = RandomStreams(100_321)


def learned_from(scenario: str, rule: ComparisonRule = RULE):
    replicate = draw_replicate(load_benchmark(), scenario, STREAMS, 0)
    learned = learn(replicate.cohort, rule, IDENTITY, STREAMS.derive("draws"))
    assert isinstance(learned, LearnedComparison)
    return replicate, learned


@pytest.fixture(scope="module")
def heterogeneous():
    return learned_from("heterogeneous")


def compared(learned: LearnedComparison, row) -> RegimenComparison:
    found = compare_patient(learned, dict(zip(learned.names, row, strict=True)))
    assert isinstance(found, RegimenComparison)
    return found


def test_medians_follow_the_truth(heterogeneous):
    replicate, learned = heterogeneous
    judged = judge(learned, replicate.covariates)
    estimated = np.median(judged.medians, axis=2)
    for k in range(3):
        assert np.corrcoef(np.log(estimated[:, k]), np.log(replicate.true_medians[:, k]))[0, 1] > 0.7
    assert np.median(np.abs(np.log(estimated / replicate.true_medians))) < 0.2


def test_a_recommendation_keeps_the_rule_and_says_against_what(heterogeneous):
    replicate, learned = heterogeneous
    judged = judge(learned, replicate.covariates)
    chosen = np.flatnonzero(judged.recommended != NOBODY)
    assert len(chosen) > 30
    found = compared(learned, replicate.covariates[chosen[0]])
    assert found.recommended in {"haic", "tace_systemic", "tace"}
    assert found.benefit_months > RULE.benefit_months
    assert found.confidence >= RULE.confidence
    pair = found.pair(found.recommended, found.against)
    assert pair.confidence == found.confidence
    assert pair.e_value.of_estimate > 1
    assert len(pair.hidden) == 9


def test_one_patient_gets_what_many_get(heterogeneous):
    replicate, learned = heterogeneous
    judged = judge(learned, replicate.covariates[:6])
    for k, row in enumerate(replicate.covariates[:6]):
        found = compared(learned, row)
        index = judged.recommended[k]
        expected = None if index == NOBODY else learned.regimens[index].regimen_id
        assert found.recommended == expected


def test_where_no_regimen_differs_nothing_is_recommended_and_the_test_is_named():
    replicate, learned = learned_from("no_difference")
    assert learned.tests.any_effect_p > RULE.any_effect_p
    assert (judge(learned, replicate.covariates).recommended == NOBODY).all()
    found = compared(learned, replicate.covariates[0])
    assert found.recommended is None
    assert Reason.NO_EFFECT_SHOWN in {r.reason for r in found.reasons}
    assert all(isinstance(p.confidence, NotAssessed) for p in found.pairs)


def test_a_regimen_with_few_deaths_is_left_out_and_named():
    replicate, learned = learned_from("few_events")
    assert [d.regimen_id for d in learned.regimens] == ["tace", "tace_systemic"]
    found = compared(learned, replicate.covariates[0])
    refused = [r for r in found.reasons if r.reason is Reason.TOO_FEW_EVENTS]
    assert "haic" in refused[0].detail
    assert {e.regimen_id for e in found.regimens if isinstance(e.median_months, NotAssessed)} >= {"haic"}
    with pytest.raises(KeyError):
        found.pair("haic", "tace")


def test_without_deaths_under_the_reference_there_is_no_comparison():
    replicate = draw_replicate(load_benchmark(), "heterogeneous", STREAMS, 0)
    cohort = replicate.cohort
    silent = replace(cohort, event=cohort.event & (cohort.regimen != 0))
    found = learn(silent, RULE, IDENTITY, STREAMS.derive("draws"))
    assert isinstance(found, NotAssessed)
    assert found.reason is Reason.TOO_FEW_EVENTS


def test_a_patient_unlike_the_cohort_is_refused(heterogeneous):
    replicate, learned = heterogeneous
    row = replicate.covariates[0].copy()
    row[learned.names.index("log_afp")] += 25.0
    found = compared(learned, row)
    assert found.recommended is None
    assert found.reasons[0].reason is Reason.OUT_OF_DISTRIBUTION
    assert "log_afp" in found.reasons[0].detail
    assert all(isinstance(p.benefit_months, NotAssessed) for p in found.pairs)


def test_where_the_groups_do_not_overlap_a_pair_is_refused():
    replicate, learned = learned_from("poor_overlap")
    judged = judge(learned, replicate.covariates)
    lonely = np.flatnonzero(~judged.pairs.overlapping[:, 1, 0] & ~judged.foreign)
    assert len(lonely) > 5
    found = compared(learned, replicate.covariates[lonely[0]])
    refused = found.pair("haic", "tace").benefit_months
    assert isinstance(refused, NotAssessed)
    assert refused.reason is Reason.NO_OVERLAP
    assert found.recommended != "haic"


def test_a_missing_value_is_asked_for(heterogeneous):
    replicate, learned = heterogeneous
    values = dict(zip(learned.names, replicate.covariates[0], strict=True)) | {"albi": float("nan")}
    found = compare_patient(learned, values)
    assert isinstance(found, NotAssessed)
    assert found.reason is Reason.CLINICAL_VALUES_MISSING
    assert "albi" in found.detail


def test_a_median_beyond_follow_up_gives_a_lower_bound_and_the_restricted_mean(heterogeneous):
    replicate, learned = heterogeneous
    short = replace(learned, regimens=tuple(replace(d, follow_up_months=36.0) for d in learned.regimens))
    judged = judge(short, replicate.covariates)
    late = np.flatnonzero(judged.beyond[:, 2] & ~judged.beyond[:, 0] & ~judged.foreign)
    assert len(late)
    found = compared(short, replicate.covariates[late[0]])
    estimate = next(e for e in found.regimens if e.regimen_id == "tace_systemic")
    assert isinstance(estimate.median_months, NotAssessed)
    assert estimate.median_months.reason is Reason.BEYOND_FOLLOW_UP
    assert 0 < estimate.rmst36.estimate < 36
    pair = found.pair("tace_systemic", "tace")
    assert pair.at_least
    plain = compared(learned, replicate.covariates[late[0]]).pair("tace_systemic", "tace")
    assert pair.benefit_months.upper <= plain.benefit_months.upper
    refused = found.pair("tace", "tace_systemic").benefit_months
    assert isinstance(refused, NotAssessed)


def test_the_reference_is_preferred_when_it_beats_the_others():
    replicate = draw_replicate(load_benchmark(), "homogeneous", STREAMS, 0)
    order = (2, 0, 1)  # the better combination becomes the reference
    cohort = replicate.cohort
    turned = replace(
        cohort,
        regimens=tuple(cohort.regimens[k] for k in order),
        regimen=np.argsort(order)[cohort.regimen].astype(np.intp),
    )
    learned = learn(turned, RULE, IDENTITY, STREAMS.derive("draws"))
    assert isinstance(learned, LearnedComparison)
    judged = judge(learned, replicate.covariates)
    chosen = np.flatnonzero(judged.recommended == 0)
    assert len(chosen) > 10
    assert (judged.recommended[judged.recommended != NOBODY] == 0).mean() > 0.9
    found = compared(learned, replicate.covariates[chosen[0]])
    assert found.recommended == "tace_systemic"
    assert found.against in {"tace", "haic"}


def test_the_same_seed_gives_the_same_answer(heterogeneous):
    replicate, learned = heterogeneous
    again = learn(replicate.cohort, RULE, IDENTITY, STREAMS.derive("draws"))
    assert compared(again, replicate.covariates[3]) == compared(learned, replicate.covariates[3])


def test_a_stricter_rule_recommends_to_fewer(heterogeneous):
    replicate, learned = heterogeneous
    strict = replace(learned, rule=ComparisonRule(benefit_months=8, confidence=0.95, draws=400))
    few, many = (judge(x, replicate.covariates).recommended != NOBODY for x in (strict, learned))
    assert 0 < few.sum() < many.sum()


@pytest.mark.parametrize("left_out", ["haic", "tace_systemic"])
def test_a_part_of_the_regimens_is_compared_as_in_the_whole(heterogeneous, left_out):
    replicate, learned = heterogeneous
    part = among(learned, {d.regimen_id for d in learned.regimens} - {left_out})
    kept = [k for k, d in enumerate(learned.regimens) if d.regimen_id != left_out]
    assert [d.regimen_id for d in part.regimens] == [learned.regimens[k].regimen_id for k in kept]
    whole, some = judge(learned, replicate.covariates), judge(part, replicate.covariates)
    pairs = np.ix_(range(len(replicate.covariates)), kept, kept)
    np.testing.assert_allclose(some.medians, whole.medians[:, kept])
    np.testing.assert_allclose(some.pairs.benefit, whole.pairs.benefit[pairs], atol=1e-9)
    np.testing.assert_array_equal(some.pairs.usable, whole.pairs.usable[pairs])
    assert set(some.recommended) <= {NOBODY, 0, 1}
    assert (some.recommended[whole.recommended == kept[1]] == 1).all()
    assert isinstance(
        compare_patient(part, dict(zip(part.names, replicate.covariates[0], strict=True))), RegimenComparison
    )


def test_the_reference_stays_whatever_is_asked_for(heterogeneous):
    _, learned = heterogeneous
    assert [d.regimen_id for d in among(learned, {"haic"}).regimens] == ["tace", "haic"]
    assert [d.regimen_id for d in among(learned, ()).regimens] == ["tace"]
