"""Laboratory values over time: which of them count, and what the linear part takes of them."""

from __future__ import annotations

import numpy as np
import pytest

from inference.case import ClinicalRecord, DatedValue
from inference.clinical.longitudinal import DAYS_PER_MONTH, LongitudinalValues
from inference.models.survival.laboratory import (
    LONGEST_DAYS,
    MOST_VALUES,
    LaboratoryTerms,
    laboratory_terms,
    laboratory_tokens,
    laboratory_variables,
    values_before,
)

NAMES = ("afp", "albumin")


def record(*values: tuple[str, int, float]) -> ClinicalRecord:
    return ClinicalRecord(dated=tuple(DatedValue(*value) for value in values))


def test_values_of_later_days_and_of_long_ago_do_not_count() -> None:
    one = record(
        ("albumin", -LONGEST_DAYS - 1, 30.0),
        ("albumin", -LONGEST_DAYS, 31.0),
        ("albumin", 0, 36.0),
        ("albumin", 1, 20.0),
        ("bilirubin", -3, 15.0),
    )
    assert [value for _months, value in values_before(one, "albumin")] == [31.0, 36.0]
    tokens = laboratory_tokens([one, ClinicalRecord()], NAMES)
    assert tokens.known.sum(axis=1).tolist() == [2, 0]
    assert tokens.kind[0].tolist() == [1, 1]
    assert (tokens.months <= 0).all()


def test_a_ward_with_daily_values_gives_the_latest_of_them() -> None:
    daily = record(*(("albumin", -day, float(day)) for day in range(60)))
    found = values_before(daily, "albumin")
    assert len(found) == MOST_VALUES
    assert found[-1] == (0.0, 0.0)


def test_variables_are_those_that_enough_patients_have_before_the_study() -> None:
    before, after = record(("albumin", -2, 36.0)), record(("afp", 4, 10.0))
    words = record(("child_pugh_class", -2, 1.0))
    assert laboratory_variables([before] * 3 + [after] * 3 + [words] * 3, least=3) == ("albumin",)
    assert laboratory_variables([before] * 2, least=3) == ()


@pytest.fixture
def terms() -> LaboratoryTerms:
    rng = np.random.default_rng(0)
    seen = [record(*(("albumin", -d, float(rng.normal(36, 4))) for d in (1, 20))) for _ in range(50)]
    return laboratory_terms(laboratory_tokens(seen, NAMES), NAMES)


def test_level_and_slope_are_in_standard_scores(terms: LaboratoryTerms) -> None:
    one = record(("albumin", -60, 30.0), ("albumin", -30, 34.0), ("albumin", 0, 41.0))
    level, slope = terms(laboratory_tokens([one], NAMES))[0, [1, 3]]
    scores = (np.arcsinh([30.0, 34.0, 41.0]) - terms.centre[1]) / terms.spread[1]
    assert level == pytest.approx(scores.mean(), rel=1e-5)
    scored = tuple(DatedValue("albumin", d, float(s)) for d, s in zip((-60, -30, 0), scores, strict=True))
    course = LongitudinalValues(scored).course("albumin")
    assert course is not None
    assert course.slope_per_month is not None
    assert slope == pytest.approx(course.slope_per_month, rel=1e-4)
    assert slope == pytest.approx((scores[2] - scores[0]) / (60 / DAYS_PER_MONTH), rel=1e-4)


def test_what_is_missing_or_too_close_together_adds_nothing(terms: LaboratoryTerms) -> None:
    close = record(("albumin", -6, 30.0), ("albumin", 0, 41.0))
    found = terms(laboratory_tokens([close, ClinicalRecord()], NAMES))
    assert found.shape == (2, 4)
    assert found[0, 1] != 0
    assert not found[0, [0, 2, 3]].any()
    assert not found[1].any()


def test_a_value_that_is_out_of_all_bounds_stays_within_them(terms: LaboratoryTerms) -> None:
    wild = record(("albumin", -40, 1.0), ("albumin", 0, 1e9))
    found = terms(laboratory_tokens([wild], NAMES))
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 5.0
