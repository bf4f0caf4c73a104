"""Asking a real archive in three ways, and retrieving from it in three ways."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydicom.uid import JPEGLSLossless

from dicom_node.batch.archive import Answer, asking
from dicom_node.batch.candidates import Filters, find_by_filters, find_listed, read_list
from dicom_node.batch.opening import Batches
from dicom_node.batch.retrieval import (
    ArchiveAway,
    NothingToRetrieve,
    RetrievalStopped,
    Retrieved,
    Retriever,
    Way,
)
from dicom_node.batch.throttle import Throttle
from dicom_node.batch.ways import FindBy, RetrieveBy
from dicom_node.clock import system_clock
from dicom_node.database import instance, reading
from dicom_node.demo.orthanc_peer import free_port
from dicom_node.errors import PermanentError
from dicom_node.intake.index import Index
from dicom_node.network.scp import listening
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.storage.opening import open_spool
from tests.builders.batch_archive import OURS, SLICES, archive_config, archived_study, study_uid, upload
from tests.builders.dicom_files import uid_of
from tests.builders.orthanc import Orthanc

WITH_REPORT = 3
"""Number of the study that has an object among its images that the node does not take."""
COMPRESSED = 2
COUNT = 4
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class Archive:
    """A real archive, and a listener of a node that it may move to."""

    orthanc: Orthanc
    settings: NodeSettings

    def retriever(self, folder: Path, retrieve_by: RetrieveBy, stop: threading.Event) -> Retriever:
        """Return a retriever; with C-MOVE objects come to the node's listener, else into `folder`."""
        by_listener = retrieve_by is RetrieveBy.C_MOVE
        data_dir = self.settings.data_dir if by_listener else folder
        settings = self.settings.model_copy(update={"data_dir": data_dir})
        spool = open_spool(settings, "batch")
        spool.incoming.mkdir(parents=True, exist_ok=True)
        index = Index(Batches.open(settings, system_clock).database, spool, system_clock)
        way = Way(settings.peer("archive"), FindBy.C_FIND, retrieve_by)
        throttle = Throttle(None, system_clock, stop.wait)
        return Retriever.of(settings, way, index, throttle, stop)


@pytest.fixture(scope="module")
def archive(needs_judge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    program = needs_judge("Orthanc")
    folder = tmp_path_factory.mktemp("archive")
    port = free_port()
    with Orthanc(program, {OURS: ("127.0.0.1", port)}) as orthanc:
        for number in range(1, COUNT + 1):
            slices = archived_study(number)
            if number == COMPRESSED:
                for ds in slices:
                    ds.compress(JPEGLSLossless, generate_instance_uid=False)
            if number == WITH_REPORT:
                page = archived_study(number)[0]
                page.SOPClassUID = SECONDARY_CAPTURE
                page.SOPInstanceUID = uid_of("dose page")
                page.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
                page.file_meta.MediaStorageSOPInstanceUID = page.SOPInstanceUID
                slices.append(page)
            upload(orthanc, slices)
        settings = load_settings([archive_config(folder, orthanc, port)])
        with listening(settings):
            yield Archive(orthanc, settings)


def _rows(retriever: Retriever, study: str) -> list[sa.Row[tuple[object, ...]]]:
    query = sa.select(instance).where(instance.c.study_instance_uid == study)
    with reading(retriever.index.engine) as connection:
        return list(connection.execute(query.order_by(instance.c.sop_instance_uid)))


def _originals(number: int) -> list[str]:
    return sorted(str(ds.SOPInstanceUID) for ds in archived_study(number))


@pytest.mark.parametrize("find_by", list(FindBy))
def test_every_way_of_asking_gives_the_same_answers(archive: Archive, find_by: FindBy) -> None:
    peer = archive.settings.peer("archive")
    with asking(find_by, peer, OURS) as asked:
        by_date = asked.studies({"StudyDate": "20190201-20190331"})
        by_number = asked.studies({"AccessionNumber": "A/0003"})
        (series,) = asked.series(study_uid(1))
        classes = asked.instances(study_uid(1), f"{study_uid(1)}.1")
    assert {a["StudyInstanceUID"] for a in by_date} == {study_uid(1), study_uid(2)}
    (third,) = by_number
    assert _some(third, "StudyInstanceUID", "StudyDate", "StudyDescription") == {
        "StudyInstanceUID": study_uid(3),
        "StudyDate": "20190415",
        "StudyDescription": "LIVER CT",
    }
    assert _some(
        series, "SeriesInstanceUID", "Modality", "SeriesDescription", "BodyPartExamined", "Manufacturer"
    ) == {
        "SeriesInstanceUID": f"{study_uid(1)}.1",
        "Modality": "CT",
        "SeriesDescription": "portal venous",
        "BodyPartExamined": "LIVER",
        "Manufacturer": "Builder",
    }
    assert series["NumberOfSeriesRelatedInstances"] == str(SLICES)
    assert sorted(classes) == _originals(1)
    told = {"1.2.840.10008.5.1.4.1.1.2"}
    assert set(classes.values()) == told or (find_by is FindBy.ORTHANC and set(classes.values()) == {""})


def _some(answer: Answer, *keywords: str) -> dict[str, str]:
    return {k: answer.get(k, "") for k in keywords}


@pytest.mark.parametrize("find_by", list(FindBy))
def test_candidates_by_filters_and_by_list(archive: Archive, find_by: FindBy) -> None:
    def no_report(_text: str, _share: float) -> None:
        return

    peer = archive.settings.peer("archive")
    filters = Filters(("CT",), "20190101", "20190331", "*IVER C?", "liver")
    with asking(find_by, peer, OURS) as asked:
        found = find_by_filters(asked, filters, no_report)
        listed = find_listed(asked, read_list(f"A/0004\n{study_uid(1)}\nA/7777"), Filters(), no_report)
    assert sorted(c.uid for c in found.candidates if not c.excluded) == [study_uid(1), study_uid(2)]
    assert [c.uid for c in listed.candidates] == [study_uid(4), study_uid(1)]
    assert listed.lines_without_study == (3,)


@pytest.mark.parametrize("retrieve_by", list(RetrieveBy))
def test_every_way_of_retrieving_brings_the_whole_study(
    archive: Archive, tmp_path: Path, retrieve_by: RetrieveBy
) -> None:
    retriever = archive.retriever(tmp_path, retrieve_by, threading.Event())
    got = retriever.retrieve(study_uid(1))
    rows = _rows(retriever, study_uid(1))
    assert [row.sop_instance_uid for row in rows] == _originals(1)
    assert got == Retrieved(SLICES, sum(row.size_bytes for row in rows))
    assert {row.calling_ae_title for row in rows} == {archive.orthanc.ae_title}
    assert retriever.retrieve(study_uid(1)) == Retrieved(0, 0)


@pytest.mark.parametrize("retrieve_by", [RetrieveBy.C_GET, RetrieveBy.WADO_RS])
def test_only_what_is_missing_is_fetched(archive: Archive, tmp_path: Path, retrieve_by: RetrieveBy) -> None:
    """What is here stays as it came, even where the archive would encode it in another way."""
    stop = threading.Event()
    first = archive.retriever(tmp_path, RetrieveBy.WADO_RS, stop)
    first.retrieve(study_uid(4))
    rows = _rows(first, study_uid(4))
    (tmp_path / rows[0].path).unlink()
    again = archive.retriever(tmp_path, retrieve_by, stop)
    assert again.retrieve(study_uid(4)).instances == 1
    after = _rows(again, study_uid(4))
    assert [row.sha256 for row in after] == [row.sha256 for row in rows]
    assert not any(row.conflicts for row in after)
    assert (tmp_path / rows[0].path).is_file()


def test_wado_brings_compressed_objects_as_they_are(archive: Archive, tmp_path: Path) -> None:
    retriever = archive.retriever(tmp_path, RetrieveBy.WADO_RS, threading.Event())
    retriever.retrieve(study_uid(COMPRESSED))
    rows = _rows(retriever, study_uid(COMPRESSED))
    assert [row.transfer_syntax_uid for row in rows] == [str(JPEGLSLossless)] * SLICES


@pytest.mark.parametrize("retrieve_by", [RetrieveBy.C_GET, RetrieveBy.WADO_RS])
def test_objects_that_are_no_input_are_left_out(
    archive: Archive, tmp_path: Path, retrieve_by: RetrieveBy
) -> None:
    retriever = archive.retriever(tmp_path, retrieve_by, threading.Event())
    assert retriever.retrieve(study_uid(WITH_REPORT)).instances == SLICES
    assert [r.sop_instance_uid for r in _rows(retriever, study_uid(WITH_REPORT))] == _originals(WITH_REPORT)


def test_a_study_that_the_archive_does_not_have_is_that_study_s_failure(
    archive: Archive, tmp_path: Path
) -> None:
    retriever = archive.retriever(tmp_path, RetrieveBy.C_GET, threading.Event())
    with pytest.raises(PermanentError, match="has nothing of the study") as raised:
        retriever.retrieve("1.2.826.404")
    assert not isinstance(raised.value, NothingToRetrieve)


def test_an_archive_that_does_not_answer_is_away(archive: Archive, tmp_path: Path) -> None:
    retriever = archive.retriever(tmp_path, RetrieveBy.C_GET, threading.Event())
    nobody = retriever.way.peer.model_copy(update={"port": free_port(), "association_timeout_s": 1.0})
    away = Retriever.of(
        archive.settings,
        Way(nobody, FindBy.C_FIND, RetrieveBy.C_GET),
        retriever.index,
        retriever.throttle,
        threading.Event(),
    )
    with pytest.raises(ArchiveAway):
        away.retrieve(study_uid(1))


def test_a_retrieval_ends_when_the_run_does_and_keeps_what_came(archive: Archive, tmp_path: Path) -> None:
    stop = threading.Event()
    retriever = archive.retriever(tmp_path, RetrieveBy.WADO_RS, stop)
    one = Throttle(1.0, system_clock, lambda _wait: stop.set())
    limited = Retriever.of(archive.settings, retriever.way, retriever.index, one, stop)
    with pytest.raises(RetrievalStopped):
        limited.retrieve(study_uid(1))
    assert len(_rows(retriever, study_uid(1))) == 1
