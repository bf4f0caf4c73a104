"""Filters, lists of UIDs and accession numbers, and what is planned of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.batch.archive import Answer
from dicom_node.batch.candidates import Filters, find_by_filters, find_listed, read_list
from dicom_node.batch.planning import Planner
from dicom_node.bundles.record import note_models
from dicom_node.database import revision, writing
from dicom_node.errors import ConfigurationError
from dicom_node.jobs.states import Revision
from dicom_node.routing.rules import Router
from inference.provenance import MANUFACTURER
from tests.builders.nodes import FORECAST_CT, PACS, Node
from tests.conftest import DrivenClock


@dataclass
class FakeArchive:
    """Studies by UID with their series; matches accession numbers, UIDs and modalities only."""

    held: dict[str, list[Answer]]
    accession: dict[str, list[str]] = field(default_factory=dict)
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def studies(self, keys: Mapping[str, str]) -> Sequence[Answer]:
        self.asked.append(keys)
        uids = list(self.held)
        if "AccessionNumber" in keys:
            uids = self.accession.get(keys["AccessionNumber"], [])
        if "StudyInstanceUID" in keys:
            uids = [u for u in uids if u == keys["StudyInstanceUID"]]
        return [{"StudyInstanceUID": uid, "StudyDate": "20190101"} for uid in uids]

    def series(self, study: str) -> Sequence[Answer]:
        return self.held[study]

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        return {f"{series}.{n}": "" for n in range(7)}


def ct(uid: str, **more: str) -> Answer:
    return {
        "SeriesInstanceUID": uid,
        "Modality": "CT",
        "NumberOfSeriesRelatedInstances": "3",
        **more,
    }


def no_report(_text: str, _share: float) -> None:
    return


def planner(folder: Path, clock: DrivenClock) -> tuple[Planner, Node]:
    node = Node(folder, clock)
    return Planner(node.ledger, Router(FORECAST_CT, [PACS]), PACS.ae_title, lambda: "models in force"), node


def test_the_keys_of_a_query() -> None:
    filters = Filters(("CT",), "20190101", "20191231", "*LIVER*")
    assert filters.keys() == {
        "StudyDate": "20190101-20191231",
        "StudyDescription": "*LIVER*",
        "ModalitiesInStudy": "CT",
    }
    assert Filters(("CT", "MR"), last_date="20191231").keys() == {"StudyDate": "-20191231"}


@pytest.mark.parametrize("dates", [("2019-01-01", ""), ("", "19"), ("20200101", "20190101")])
def test_wrong_dates_are_refused(dates: tuple[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        Filters(first_date=dates[0], last_date=dates[1])


def test_what_the_archive_does_not_filter_is_filtered_here() -> None:
    archive = FakeArchive(
        {
            "1.2.1": [ct("1.2.1.1", BodyPartExamined="LIVER")],
            "1.2.2": [ct("1.2.2.1", BodyPartExamined="HEAD")],
            "1.2.3": [ct("1.2.3.1")],
            "1.2.4": [{**ct("1.2.4.1"), "Modality": "PT"}],
        }
    )
    found = find_by_filters(archive, Filters(("CT", "MR"), body_part="liver"), no_report)
    assert {c.uid: c.excluded for c in found.candidates} == {
        "1.2.1": "",
        "1.2.2": "no series of body part liver",
        "1.2.3": "",
        "1.2.4": "no series of CT, MR",
    }


def test_instances_are_counted_where_the_archive_does_not_tell_them() -> None:
    series = {k: v for k, v in ct("1.2.1.1").items() if k != "NumberOfSeriesRelatedInstances"}
    found = find_by_filters(FakeArchive({"1.2.1": [series]}), Filters(), no_report)
    assert found.candidates[0].series[0]["NumberOfSeriesRelatedInstances"] == "7"


def test_a_list_is_read_as_people_write_it() -> None:
    text = '\ufeffA0001;Smith\n\n# old ones\n"1.2.840.1.5", x\n  A0002  \n'
    entries = read_list(text)
    assert [(e.line, e.value, e.is_uid) for e in entries] == [
        (1, "A0001", False),
        (4, "1.2.840.1.5", True),
        (5, "A0002", False),
    ]
    assert entries[0].keys == {"AccessionNumber": "A0001"}
    assert entries[1].keys == {"StudyInstanceUID": "1.2.840.1.5"}


@pytest.mark.parametrize("value", ["*", "A00?1", "A1\\A2"])
def test_an_entry_that_would_match_others_too_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        read_list(f"A1\n{value}\n")


def test_an_accession_number_may_have_several_studies_and_a_study_several_lines() -> None:
    archive = FakeArchive(
        {"1.2.1": [ct("1.2.1.1")], "1.2.2": [ct("1.2.2.1")]}, accession={"A1": ["1.2.1", "1.2.2"]}
    )
    found = find_listed(archive, read_list("A1\n1.2.2\nA9\n1.2.9"), Filters(), no_report)
    assert [(c.uid, c.absent) for c in found.candidates] == [
        ("1.2.1", False),
        ("1.2.2", False),
        ("1.2.9", True),
    ]
    assert found.lines_without_study == (3, 4)


def test_a_list_of_which_the_archive_has_nothing_is_a_mistake_somewhere() -> None:
    with pytest.raises(ConfigurationError, match="is our AE title known there"):
        find_listed(FakeArchive({}), read_list("A1\nA2"), Filters(), no_report)


def test_a_draft_says_what_is_retrieved_and_why_the_rest_is_not(tmp_path: Path, clock: DrivenClock) -> None:
    archive = FakeArchive(
        {
            "1.2.1": [ct("1.2.1.1")],
            "1.2.2": [ct("1.2.2.1"), {**ct("1.2.2.2"), "Modality": "PR"}],
            "1.2.3": [{**ct("1.2.3.1"), "Modality": "XA"}],
            "1.2.4": [ct("1.2.4.1", Manufacturer=MANUFACTURER.upper())],
        }
    )
    judge, _ = planner(tmp_path, clock)
    draft = judge.draft(
        find_listed(archive, read_list("1.2.1\n1.2.2\n1.2.3\n1.2.4\n1.2.5"), Filters(), no_report)
    )
    assert {s.study_instance_uid: s.skip for s in draft.studies} == {
        "1.2.1": "",
        "1.2.2": "",
        "1.2.3": "ignore by rule 'rest': no CT",
        "1.2.4": "ignore: the archive has no series of it that can be input",
        "1.2.5": "the archive has no such study",
    }
    assert [s.instances for s in draft.studies if not s.skip] == [3, 3]
    assert (draft.retrieved, draft.lines_without_study) == (2, (5,))
    first = draft.outlooks[0]
    assert (first.studies, first.retrieved, first.why) == (2, True, "forecast by rule 'ct'")
    assert sum(o.studies for o in draft.outlooks) == 5


@pytest.mark.parametrize(
    ("state", "models", "skipped"),
    [
        (Revision.DELIVERED, "models in force", True),
        (Revision.DELIVERING, "models in force", True),
        (Revision.DELIVERED, "other models", False),
        (Revision.FAILED, "models in force", False),
        (Revision.REFUSED, "models in force", False),
    ],
)
def test_a_study_processed_with_the_same_models_is_recognised(
    tmp_path: Path, clock: DrivenClock, state: Revision, models: str, skipped: bool
) -> None:
    judge, node = planner(tmp_path, clock)
    with writing(node.database) as connection:
        revision_id = node.ledger.open_revision(connection, "1.2.1")
        connection.execute(sa.update(revision).where(revision.c.id == revision_id).values(state=state))
    note_models(node.database, revision_id, 1, models, {})
    draft = judge.draft(find_by_filters(FakeArchive({"1.2.1": [ct("1.2.1.1")]}), Filters(), no_report))
    (study,) = draft.studies
    assert bool(study.skip) is skipped
    if skipped:
        assert study.skip == f"already processed with the same models (revision 1 is {state})"
