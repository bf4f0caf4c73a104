"""How covariates enter the comparison: standard units, and logarithms of laboratory values."""

from __future__ import annotations

import numpy as np

from inference.comparison.effects import Scaling


def cohort(n: int = 400) -> np.ndarray:
    """Age, AFP, metastasis, and a skewed value that may be 0, in columns."""
    rng = np.random.default_rng(3)
    afp = np.exp(rng.normal(5.0, 2.6, n))
    return np.column_stack([rng.normal(60, 10, n), afp, rng.random(n) < 0.2, np.maximum(afp - 20, 0)])


def test_a_laboratory_value_enters_as_its_logarithm_and_nothing_else_does() -> None:
    covariates = cohort()
    scaling = Scaling.of(covariates)
    assert (scaling.least > 0).tolist() == [False, True, False, False]
    standard = scaling.standard(covariates)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(standard.std(axis=0), 1)
    np.testing.assert_allclose(np.corrcoef(standard[:, 1], np.log(covariates[:, 1]))[0, 1], 1)
    np.testing.assert_allclose(np.corrcoef(standard[:, 0], covariates[:, 0])[0, 1], 1)


def test_a_value_below_all_of_the_cohort_is_taken_as_its_smallest() -> None:
    covariates = cohort()
    scaling = Scaling.of(covariates)
    new = covariates[:2].copy()
    new[0, 1], new[1, 1] = 0.0, covariates[:, 1].min()
    standard = scaling.standard(new)
    assert standard[0, 1] == standard[1, 1]
    assert np.isfinite(standard).all()


def test_the_given_array_stays_as_it_is() -> None:
    covariates = cohort()
    before = covariates.copy()
    Scaling.of(covariates).standard(covariates)
    np.testing.assert_array_equal(covariates, before)
