"""The index: duplicates, conflicts, and what a start finds."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.database import instance, open_database, reading
from dicom_node.errors import MismatchedObject, OutOfRoom, UnreadableObject
from dicom_node.intake.header import check_command, read_header
from dicom_node.intake.index import Index, Outcome, Received, Reconciliation, received_whole
from dicom_node.intake.spool import Spool
from inference.provenance import is_made_here
from tests.builders.dicom_files import CT, ct_slice
from tests.dicom_node.intake.test_spool import EXPLICIT, encoded


@pytest.fixture
def index(tmp_path: Path, clock):
    spool = Spool(tmp_path, minimum_free_bytes=0)
    engine = open_database(tmp_path)
    with spool.held():
        yield Index(engine, spool, clock)
    engine.dispose()


def received(ds, sender: str = "SENDER") -> Received:
    return received_whole(encoded(ds), EXPLICIT, sender)


def rows(index: Index):
    with reading(index.engine) as connection:
        return connection.execute(select(instance).order_by(instance.c.id)).all()


def test_a_row_says_what_was_received(index: Index, clock) -> None:
    ds = ct_slice("1.2.3", "1.2.3.4", rows=16)
    assert index.accept(received(ds)) is Outcome.STORED
    (row,) = rows(index)
    assert (row.sop_instance_uid, row.sop_class_uid) == (ds.SOPInstanceUID, CT)
    assert (row.study_instance_uid, row.series_instance_uid) == ("1.2.3", "1.2.3.4")
    assert (row.modality, row.calling_ae_title, row.received_at) == ("CT", "SENDER", clock())
    assert (row.made_here, row.conflicts) == (False, False)
    assert row.size_bytes == len(encoded(ds))
    assert index.spool.exists(row.path)


def test_the_same_again_changes_nothing(index: Index) -> None:
    index.accept(received(ct_slice(rows=16)))
    before = rows(index)
    assert index.accept(received(ct_slice(rows=16), "OTHER")) is Outcome.DUPLICATE
    assert rows(index) == before


def test_other_bytes_under_the_same_uid_are_kept_and_marked(index: Index) -> None:
    first, second, third = ct_slice(rows=16), ct_slice(rows=16), ct_slice(rows=16)
    second.StudyDescription = "other"
    third.SeriesInstanceUID = "1.9"  # the same UID in another series
    assert index.accept(received(first)) is Outcome.STORED
    assert index.accept(received(second)) is Outcome.CONFLICT
    assert index.accept(received(third)) is Outcome.CONFLICT
    found = rows(index)
    assert len({row.path for row in found}) == 3
    assert all(row.conflicts and index.spool.exists(row.path) for row in found)


def test_a_file_that_lost_its_row_gets_it_at_start(index: Index) -> None:
    ds = ct_slice(rows=16)
    index.accept(received(ds))
    (kept,) = rows(index)
    with index.engine.begin() as connection:
        connection.execute(instance.delete())
    assert index.reconcile() == Reconciliation(indexed=1)
    assert rows(index)[0][1:] == kept[1:]
    assert index.reconcile() == Reconciliation()


def test_a_conflict_is_found_again_at_start(index: Index) -> None:
    second = ct_slice(rows=16)
    second.StudyDescription = "other"
    index.accept(received(ct_slice(rows=16)))
    index.accept(received(second))
    with index.engine.begin() as connection:
        connection.execute(instance.delete())
    assert index.reconcile() == Reconciliation(indexed=2)
    assert all(row.conflicts for row in rows(index))


def test_a_row_without_its_file_is_reported_and_heals(index: Index, caplog) -> None:
    index.accept(received(ct_slice(rows=16)))
    (row,) = rows(index)
    (index.spool.data_dir / row.path).unlink()
    assert index.reconcile() == Reconciliation(rows_without_file=1)
    assert "not on disk" in caplog.text
    index.accept(received(ct_slice(rows=16)))
    assert index.spool.exists(row.path)
    assert rows(index) == [row]


def test_a_damaged_file_is_put_aside_not_deleted(index: Index, caplog) -> None:
    index.accept(received(ct_slice(rows=16)))
    (row,) = rows(index)
    path = index.spool.data_dir / row.path
    path.write_bytes(path.read_bytes()[:-10])
    with index.engine.begin() as connection:
        connection.execute(instance.delete())
    assert index.reconcile() == Reconciliation(put_aside=1)
    assert "put aside" in caplog.text
    assert (index.spool.root / "aside" / "1.2.826.1" / path.name).is_file()
    assert index.reconcile() == Reconciliation()


def test_an_index_that_cannot_be_written_is_out_of_room(index: Index) -> None:
    with index.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE instance")
    with pytest.raises(OutOfRoom, match="index"):
        index.accept(received(ct_slice(rows=16)))


def test_only_the_maker_of_the_object_itself_counts() -> None:
    ours, edited = ct_slice(rows=16), ct_slice(rows=16)
    ours.Manufacturer = "Hepatocast"
    equipment = ct_slice(rows=16)
    equipment.Manufacturer = "Hepatocast"
    edited.Manufacturer = "Workstation"
    edited.ContributingEquipmentSequence = [equipment]
    assert is_made_here(ours)
    assert not is_made_here(edited)
    assert received(ours).header.made_here
    assert not received(edited).header.made_here


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_a_data_set_needs_its_uids(keyword: str) -> None:
    absent, empty, invalid = ct_slice(rows=16), ct_slice(rows=16), ct_slice(rows=16)
    del absent[keyword]
    setattr(empty, keyword, "")
    invalid[keyword]._value = "../1.2"
    for ds in (absent, empty, invalid):
        with pytest.raises(UnreadableObject, match=keyword):
            received(ds)


@pytest.mark.parametrize("data", [b"", b"\0" * 4000, b"GET / HTTP/1.1\r\n\r\n" * 50, bytes(range(256)) * 20])
@pytest.mark.parametrize(
    "syntax", [EXPLICIT, "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]
)
def test_garbage_is_unreadable(data: bytes, syntax: str) -> None:
    with pytest.raises(UnreadableObject):
        read_header(BytesIO(data), syntax)


def test_an_end_inside_the_pixel_data_is_noticed() -> None:
    data = encoded(ct_slice(rows=16))
    read_header(BytesIO(data), EXPLICIT)
    with pytest.raises(UnreadableObject, match="pixel data"):
        read_header(BytesIO(data[:-100]), EXPLICIT)


def test_data_set_and_command_must_agree() -> None:
    header = received(ct_slice(rows=16)).header
    check_command(header, CT, header.sop_instance_uid)
    with pytest.raises(MismatchedObject, match="Class"):
        check_command(header, "1.2.3", header.sop_instance_uid)
    with pytest.raises(MismatchedObject, match="Instance"):
        check_command(header, CT, "1.2.3")
