"""Angiographies in a study: listed in the case, neither chosen nor refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inference.case import Case, SeriesRole
from inference.errors import RejectedInput
from inference.imaging.reading import read_case
from inference.stages.load import load
from inference.stages.selection import select
from tests.builders import reports
from tests.builders.studies import write_study

PERSON = reports.Person(name="", patient_id="")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return read_case(folder)


def with_angiography(case: Case, folder: Path) -> Case:
    person = replace(PERSON, study=case.study_instance_uid)
    reports.written(reports.angiogram(person), folder / "xa.dcm")
    return replace(case, series=(*read_case(folder).series, *case.series))


def test_angiography_is_listed_and_changes_nothing(case: Case, tmp_path: Path) -> None:
    more = with_angiography(case, tmp_path)
    (dsa,) = more.with_role(SeriesRole.DSA)
    assert dsa.description == "DSA common hepatic artery"
    assert case.with_role(SeriesRole.DSA) == ()
    assert len(more.with_role(SeriesRole.IMAGE)) == len(case.with_role(SeriesRole.IMAGE)) > 0
    assert len(more.with_role(SeriesRole.SEGMENTATION)) == 1
    assert select(more) == select(case)
    assert dsa.series_instance_uid not in {r.series_instance_uid for r in select(more).rejected}


def test_angiography_alone_is_no_study_to_forecast(case: Case, tmp_path: Path) -> None:
    more = with_angiography(case, tmp_path)
    alone = replace(more, series=more.with_role(SeriesRole.DSA))
    with pytest.raises(RejectedInput, match="no image series of CT or MR"):
        load(select(alone))
