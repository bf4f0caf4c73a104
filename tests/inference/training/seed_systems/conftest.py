"""What the tests of the published systems share."""

from __future__ import annotations

import pytest

from inference.results import StudyResults
from inference.training.cohort import Cohort
from tests.builders.results import results
from tests.builders.seed_cohorts import seed_cohort


@pytest.fixture(scope="session")
def seed_patients(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Forty patients in whom vascular tumours respond; written once, and never changed."""
    return seed_cohort(tmp_path_factory.mktemp("seed_patients"), 40)


@pytest.fixture(scope="session")
def study() -> StudyResults:
    """A study that arrives."""
    return results()
