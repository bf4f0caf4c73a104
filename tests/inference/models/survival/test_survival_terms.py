from __future__ import annotations

import numpy as np
import pytest

from inference.models.survival.terms import Kind, Scale, number_terms, table_terms, word_terms


@pytest.mark.parametrize("scale", list(Scale))
def test_terms_of_a_number_are_standardised_and_straight_lines_are_taken_out(scale: Scale) -> None:
    values = np.exp(np.random.default_rng(1).normal(size=400))

    terms = number_terms(values, scale)
    z, smooth = terms.standardised(values), terms.smooth(values)

    assert z.mean() == pytest.approx(0.0, abs=0.02)
    assert z.std() == pytest.approx(1.0, abs=0.03)
    assert smooth.shape[1] >= 2
    np.testing.assert_allclose(smooth.T @ z / len(z), 0.0, atol=0.05)


def test_skewed_numbers_become_symmetric_on_the_normal_scale() -> None:
    values = np.exp(np.random.default_rng(2).normal(size=2000))

    z = number_terms(values, Scale.NORMAL).standardised(values)

    assert abs(float((z**3).mean())) < 0.15


def test_missing_numbers_are_at_the_median_and_flagged_where_training_had_some() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, np.nan])

    terms = number_terms(values, Scale.RAW)
    asked = np.array([np.nan, 2.5])

    assert terms.standardised(asked)[0] == terms.standardised(asked)[1]
    assert terms.missing(asked)[0, 0] > 0 > terms.missing(asked)[1, 0]
    assert number_terms(values[:4], Scale.RAW).missing(asked).shape == (2, 0)


def test_values_beyond_the_training_range_are_moved_to_its_end() -> None:
    terms = number_terms(np.linspace(0.0, 10.0, 50), Scale.NORMAL)

    z = terms.standardised(np.array([-1e9, 0.0, 10.0, 1e9]))

    assert z[0] == z[1]
    assert z[2] == z[3]


def test_rare_and_unknown_categories_count_as_the_most_frequent_one() -> None:
    words = ["a"] * 20 + ["b"] * 10 + ["rare"] * 2

    terms = word_terms(words)

    assert terms.categories == ("b",)
    np.testing.assert_array_equal(terms.linear(["a"]), terms.linear(["never seen"]))
    assert terms.linear(["b"])[0, 0] > terms.linear(["a"])[0, 0]


def test_table_keeps_kind_and_column_of_each_term_and_drops_constant_columns() -> None:
    rng = np.random.default_rng(3)
    table = {
        "number": np.where(np.arange(40) % 8 == 0, np.nan, rng.normal(size=40)),
        "constant": np.ones(40),
        "word": ["x", "y"] * 20,
    }

    matrix = table_terms(table, Scale.RAW)(table, 40)

    assert matrix.x.shape == (40, len(matrix.kinds))
    assert set(matrix.kinds) == set(Kind)
    assert matrix.columns == tuple(sorted(matrix.columns))
    assert max(matrix.columns) == 1
    assert np.isfinite(matrix.x).all()
