"""Laboratory values over time: features look back only."""

from __future__ import annotations

import pytest

from inference.case import ClinicalRecord, ClinicalValue, DatedValue
from inference.clinical.longitudinal import LongitudinalValues, with_last_values


def dated(*pairs: tuple[int, float], name: str = "albumin") -> tuple[DatedValue, ...]:
    return tuple(DatedValue(name, days, value) for days, value in pairs)


def test_features_of_the_past() -> None:
    course = LongitudinalValues(dated((-60, 40), (-30, 38), (0, 36))).course("albumin")
    assert course is not None
    assert (course.last, course.last_days, course.n) == (36, 0, 3)
    assert course.slope_per_month == pytest.approx(-4 / 60 * 30.4375)


def test_the_future_changes_no_feature() -> None:
    past = dated((-20, 40), (-10, 38))
    future = dated((1, 10), (300, 5)) + dated((4, 99), name="crp")
    values = LongitudinalValues(past + future)
    assert values.features == LongitudinalValues(past).features
    assert values.landmark == LongitudinalValues(past)
    assert [v.value for v in values.after("albumin")] == [10, 5]
    assert values.course("crp") is None


@pytest.mark.parametrize("values", [dated((-3, 40)), dated((-3, 40), (0, 38)), dated((0, 38), (1, 30))])
def test_no_slope_of_a_few_days(values: tuple[DatedValue, ...]) -> None:
    course = LongitudinalValues(values).course("albumin")
    assert course is not None
    assert course.slope_per_month is None


def test_last_value_fills_what_is_missing() -> None:
    values = dated((-31, 30), name="crp") + dated((-30, 30)) + dated((-2, 9), name="alt")
    record = ClinicalRecord({"alt": ClinicalValue("alt", 41.0, "U/L")}, values)
    filled = with_last_values(record)
    assert {name: v.value for name, v in filled.values.items()} == {"alt": 41.0, "albumin": 30}
    assert filled.values["albumin"].unit == "g/L"
    assert filled.dated == values
