"""Objects of the phantom's forecast, written once for all tests of this folder."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from inference.results import StudyResults
from reporting.outputs import BUILDERS, WrittenObject, build, write_objects
from tests.builders.results import (
    context,
    results,
    with_refused_regimen,
    with_regimens_compared,
    with_second_opinions,
)


@dataclass(frozen=True)
class Written:
    """A forecast and what was written of it."""

    results: StudyResults
    folder: Path
    objects: tuple[WrittenObject, ...]

    def paths(self, kind: str) -> list[Path]:
        """Return the files of one kind, in the order in which they were written."""
        return [self.folder / w.path for w in self.objects if w.kind == kind]

    @property
    def all_paths(self) -> list[Path]:
        return [self.folder / w.path for w in self.objects]


def pdf_words(path: Path, pdftotext: str, folder: Path) -> str:
    """Return the words of an Encapsulated PDF, single spaces between them."""
    (folder / "r.pdf").write_bytes(pydicom.dcmread(path).EncapsulatedDocument)
    done = subprocess.run(
        [pdftotext, "-layout", str(folder / "r.pdf"), "-"], capture_output=True, text=True, check=True
    )
    return " ".join(done.stdout.split())


def write(found: StudyResults, folder: Path) -> Written:
    objects = write_objects(build(found, context(), tuple(BUILDERS)), folder)
    return Written(found, folder, tuple(objects))


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """CT, arterial and portal venous, two regimens."""
    return write(results(), tmp_path_factory.mktemp("phantom"))


@pytest.fixture(scope="session")
def phantom_mr(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """MR, T1 portal venous only: mRECIST is refused."""
    return write(results("MR", ("t1_portal_venous",)), tmp_path_factory.mktemp("phantom_mr"))


@pytest.fixture(scope="session")
def phantom_compared(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """CT, two regimens that were compared, and three second opinions, of which one failed."""
    found = with_second_opinions(with_regimens_compared(results()))
    return write(found, tmp_path_factory.mktemp("phantom_compared"))


@pytest.fixture(scope="session")
def phantom_refused(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """CT, portal venous only, two regimens and one that the generator was not trained on."""
    found = with_refused_regimen(results(phases=("portal_venous",)))
    return write(found, tmp_path_factory.mktemp("phantom_refused"))
