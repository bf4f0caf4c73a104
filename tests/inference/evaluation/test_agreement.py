"""Agreement of readers against published examples."""

from __future__ import annotations

import numpy as np
import pytest

from inference.evaluation.agreement import fleiss_kappa, icc_2_1, krippendorff_alpha

# Shrout & Fleiss 1979, Psychol Bull 86:420, table 2: six targets, four judges.
SHROUT = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)

# Fleiss 1971: counts of 14 raters over five categories for ten subjects.
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)

# Krippendorff 2011, section E: four observers, twelve units, missing values.
N = np.nan
KRIPPENDORFF = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T


def test_icc_of_the_published_example():
    found = icc_2_1(SHROUT)
    assert found.value == pytest.approx(0.29, abs=0.005)
    # The limits that R's psych::ICC prints for ICC2 of this table.
    assert (found.lower, found.upper) == (pytest.approx(0.019, abs=0.001), pytest.approx(0.76, abs=0.005))


def test_icc_of_readers_who_agree_is_one_and_of_one_reader_is_nothing():
    assert icc_2_1(np.repeat(np.arange(5.0)[:, None], 3, axis=1)).value == 1.0
    assert np.isnan(icc_2_1(np.ones((5, 1))).value)


def test_icc_counts_a_shift_of_one_reader_as_disagreement():
    scores = np.stack([np.arange(6.0), np.arange(6.0) + 2, np.arange(6.0) + 0.1], axis=1)
    assert icc_2_1(scores).value < 0.85


def test_fleiss_kappa_of_the_published_example():
    scores = np.array([np.repeat(np.arange(5.0), row) for row in FLEISS])
    assert fleiss_kappa(scores) == pytest.approx(0.210, abs=0.0005)


def test_fleiss_kappa_of_perfect_agreement_and_of_nothing_to_agree_on():
    assert fleiss_kappa(np.repeat([[1.0], [2.0], [3.0]], 3, axis=1)) == 1.0
    assert np.isnan(fleiss_kappa(np.full((4, 3), 5.0)))


def test_krippendorff_alpha_of_the_published_example():
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(0.815, abs=0.0005)


def test_krippendorff_alpha_of_perfect_agreement_and_of_equal_scores():
    assert krippendorff_alpha(np.repeat([[1.0], [2.0], [5.0]], 3, axis=1)) == 1.0
    assert np.isnan(krippendorff_alpha(np.full((4, 3), 2.0)))
    assert np.isnan(krippendorff_alpha(np.full((4, 3), np.nan)))
