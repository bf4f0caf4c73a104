"""C-FIND, C-GET and C-MOVE against a real PACS."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGLSLossless

from dicom_node.clock import system_clock
from dicom_node.database import instance, reading
from dicom_node.errors import TransientError
from dicom_node.network.query import Fetched, PeerQuery
from dicom_node.network.scp import listening
from tests.builders.dicom_files import Called, ct_series, send
from tests.builders.orthanc import Orthanc, free_port
from tests.builders.outboxes import OURS, Delivery, orthanc_peer
from tests.builders.waiting import until

STUDY, FIRST, SECOND = "1.2.9", "1.2.9.1", "1.2.9.2"
SLICES = [*ct_series(3, STUDY, FIRST, rows=16), *ct_series(2, STUDY, SECOND, rows=16)]
UIDS = [str(ds.SOPInstanceUID) for ds in SLICES]


@contextmanager
def pacs_with(
    program: str, folder: Path, data_sets: list[Dataset], **options: Any
) -> Iterator[tuple[PeerQuery, Delivery, list[Fetched]]]:
    """Run an Orthanc that has some objects, a node's listener, and a query that keeps what it fetches."""
    port = free_port()
    taken: list[Fetched] = []
    with Orthanc(program, {OURS: ("127.0.0.1", port)}, options=options) as orthanc:
        to = Called(orthanc.dicom_port, orthanc.ae_title, "SENDER")
        assert set(send(data_sets, to)) == {0}
        node = Delivery(folder / "node", system_clock, [orthanc_peer(orthanc)], port)
        with listening(node.settings):
            yield PeerQuery(node.settings.peers[0], OURS, taken.append), node, taken


def received(node: Delivery) -> set[str]:
    with reading(node.database) as connection:
        return set(connection.execute(sa.select(instance.c.sop_instance_uid)).scalars())


def test_counts_of_all_series(tmp_path: Path, needs_judge) -> None:
    with pacs_with(needs_judge("Orthanc"), tmp_path, SLICES) as (query, _, _):
        found = query.series(STUDY)
    assert {uid: (series.modality, series.instances) for uid, series in found.items()} == {
        FIRST: ("CT", 3),
        SECOND: ("CT", 2),
    }


def test_a_study_that_is_not_there_is_no_empty_study(tmp_path: Path, needs_judge) -> None:
    with pacs_with(needs_judge("Orthanc"), tmp_path, SLICES) as (query, _, _):
        with pytest.raises(TransientError, match="registered"):
            query.series("1.2.10")


def test_a_stranger_is_told_nothing_and_does_not_take_it_for_an_empty_study(
    tmp_path: Path, needs_judge
) -> None:
    with pacs_with(needs_judge("Orthanc"), tmp_path, SLICES) as (query, _, _):
        with pytest.raises(TransientError):
            replace(query, our_ae_title="STRANGER").series(STUDY)


def test_only_what_is_missing_is_fetched(tmp_path: Path, needs_judge) -> None:
    with pacs_with(needs_judge("Orthanc"), tmp_path, SLICES) as (query, node, taken):
        assert query.fetch(STUDY, FIRST, frozenset(UIDS[:1])) == 2
        assert {f.sop_instance_uid for f in taken} == set(UIDS[1:3])
        assert query.fetch(STUDY, SECOND, frozenset(UIDS)) == 0
        assert received(node) == set()


def test_c_move_brings_what_c_get_does_not(tmp_path: Path, needs_judge, caplog) -> None:
    """A PACS that forbids C-GET to us; the objects come to the listener."""
    caplog.set_level(logging.INFO)
    port = free_port()
    with Orthanc(needs_judge("Orthanc")) as orthanc:
        assert set(send(SLICES, Called(orthanc.dicom_port, orthanc.ae_title, "SENDER"))) == {0}
        node = Delivery(tmp_path / "node", system_clock, [orthanc_peer(orthanc)], port)
        orthanc.stop()
        rights = {"AllowFind": True, "AllowMove": True, "AllowStore": True, "AllowGet": False}
        address = {"AET": OURS, "Host": "127.0.0.1", "Port": port}
        orthanc.options = {"DicomModalities": {OURS: {**address, **rights}}, "DicomAlwaysAllowGet": False}
        orthanc.start()
        with listening(node.settings):
            query = PeerQuery(node.settings.peers[0], OURS)
            assert query.fetch(STUDY, FIRST, frozenset()) == 3
            until(lambda: received(node) == set(UIDS[:3]))
    assert "trying C-MOVE" in caplog.text


def test_a_compressed_series_comes(tmp_path: Path, needs_judge) -> None:
    compressed = ct_series(2, STUDY, FIRST, rows=16)
    for ds in compressed:
        ds.compress(JPEGLSLossless, generate_instance_uid=False)
    with pacs_with(needs_judge("Orthanc"), tmp_path, compressed) as (query, node, taken):
        query.fetch(STUDY, FIRST, frozenset())
        until(lambda: received(node) | {f.sop_instance_uid for f in taken} == set(UIDS[:2]))


def test_a_series_as_files(tmp_path: Path, needs_judge) -> None:
    with pacs_with(needs_judge("Orthanc"), tmp_path, SLICES) as (query, _, _):
        paths = query.fetch_series(STUDY, SECOND, tmp_path)
    assert {str(dcmread(path).SOPInstanceUID) for path in paths} == set(UIDS[3:])
    for path in paths:
        ds = dcmread(path)
        (source,) = [s for s in SLICES if s.SOPInstanceUID == ds.SOPInstanceUID]
        assert ds.PixelData == source.PixelData
