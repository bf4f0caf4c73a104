from __future__ import annotations

import pytest

from inference.case import Case
from inference.imaging.reading import read_case
from inference.results import Baseline
from inference.stages.load import load
from inference.stages.selection import select
from tests.builders.studies import Phantom, write_study

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return PHANTOM


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A CT study without a segmentation."""
    return read_case(
        write_study(tmp_path_factory.mktemp("study") / "s", ("portal_venous",), phantom=PHANTOM, seg=None)
    )


@pytest.fixture(scope="session")
def baseline(case: Case) -> Baseline:
    return load(select(case))
