"""Every object before the independent validators: only what the design allows may be left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest

from dicom_node.settings import load_settings
from inference.imaging.reading import read_case
from inference.pipeline import Bundles, run
from inference.randomness import RandomStreams
from inference.results import NotAssessed, StudyResults
from reporting.outputs import build, write_objects
from tests.builders import judges
from tests.builders.results import context
from tests.reporting.conftest import Written, write

REPORT_KINDS = ("axes", "report")


@pytest.fixture(scope="module")
def ircad17(tmp_path_factory, real_data: Path) -> Written:
    """A real portal venous CT with awkward headers, one regimen at one month and its best response."""
    folder = real_data / "ircad17"
    if not folder.exists():
        pytest.skip("real data not found: ircad17")
    case = read_case([*sorted((folder / "ct").iterdir()), folder / "seg.dcm"])
    settings = load_settings().pipeline(["tace"], [3.0]).model_copy(update={"best_response": False})
    found = run(case, settings, Bundles.shipped(), RandomStreams(settings.seed), lambda text, share: None)
    return write(found, tmp_path_factory.mktemp("ircad17"))


@pytest.fixture(params=["phantom", "phantom_mr", "phantom_refused", "phantom_compared", "ircad17"])
def written(request: pytest.FixtureRequest) -> Written:
    return request.getfixturevalue(request.param)


def _complaints(judge, program: str, paths: list[Path]) -> dict[str, list[str]]:
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(paths, pool.map(lambda path: judge(program, path), paths), strict=True))
    return {str(path.parent.parent.name): lines for path, lines in found.items() if lines}


def test_every_object_satisfies_dciodvfy(written, needs_judge):
    assert _complaints(judges.dciodvfy, needs_judge("dciodvfy"), written.all_paths) == {}


def test_objects_are_consistent_with_each_other(written, needs_judge):
    assert judges.dcentvfy(needs_judge("dcentvfy"), written.all_paths) == []


def _brief(found: StudyResults) -> StudyResults:
    """Return a forecast of one time point under one regimen, or of what was refused alone.

    DicomSRValidator takes seven seconds and 180 MB for each group of a report; more time points only
    repeat groups of the same make.
    """
    recommended = None if isinstance(found.comparison, NotAssessed) else found.comparison.recommended
    needed = {recommended or found.forecasts[0].regimen_id}
    refused = tuple(f for f in found.forecasts if f.not_assessed is not None)
    kept = tuple(f for f in found.forecasts if f.regimen_id in needed)
    return replace(found, forecasts=refused or tuple(replace(f, time_points=f.time_points[:1]) for f in kept))


def test_structured_reports_satisfy_their_templates(phantom, needs_judge, tmp_path):
    _check_templates(phantom.results, needs_judge("DicomSRValidator"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phantom_mr", "phantom_refused", "phantom_compared", "ircad17"])
def test_structured_reports_of_other_studies_satisfy_their_templates(name, request, needs_judge, tmp_path):
    written = request.getfixturevalue(name)
    _check_templates(written.results, needs_judge("DicomSRValidator"), tmp_path)


def _check_templates(found: StudyResults, judge: str, folder: Path) -> None:
    written = write_objects(build(_brief(found), context(), REPORT_KINDS), folder)
    assert len(written) == 2
    assert _complaints(judges.sr_validator, judge, [folder / w.path for w in written]) == {}


def test_structured_reports_are_documents_for_dsrdump(written, needs_judge):
    paths = [path for kind in REPORT_KINDS for path in written.paths(kind)]
    assert _complaints(judges.dsrdump, needs_judge("dsrdump"), paths) == {}


def test_a_judge_complains_about_a_defect(phantom, needs_judge, tmp_path):
    """The filter of allowed leftovers must not hide what is wrong."""
    ds = pydicom.dcmread(phantom.paths("virtual_series")[0])
    del ds.SOPClassUID, ds.ImageType
    ds.SOPClassUID = pydicom.uid.CTImageStorage
    ds.save_as(tmp_path / "defect.dcm", enforce_file_format=True)
    lines = judges.dciodvfy(needs_judge("dciodvfy"), tmp_path / "defect.dcm")
    assert any("ImageType" in line for line in lines)
