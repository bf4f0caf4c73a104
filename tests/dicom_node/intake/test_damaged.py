"""Files of the spool that changed on the disk: noticed before they are used, and replaced when sent again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.intake.damaged import SEND_AGAIN
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import ResultRow
from dicom_node.worker import JobOrder, Worker
from tests.builders.dicom_files import ct_series
from tests.builders.nodes import Node

STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"


def _nothing(_order: JobOrder, _report: Report) -> list[ResultRow]:
    return []


def _flip_a_pixel(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-10] ^= 1
    file.write_bytes(content)


def _cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:400])


def _lose(file: Path) -> None:
    file.unlink()


def _quiet(node: Node, clock) -> None:
    node.assembler.step()
    clock.advance(11)
    node.assembler.step()


def _file(node: Node) -> Path:
    return node.data_dir / node.ledger.inputs(STUDY)[1].path


def _send_again(node: Node, clock) -> None:
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    node.assembler.step()
    assert node.states() == ["SUPERSEDED", "RECEIVING"]
    clock.advance(9)
    node.assembler.step()
    assert node.states()[-1] == "RECEIVING", "the rest of it may still be coming"
    clock.advance(2)
    node.assembler.step()
    assert node.states()[-1] == "QUEUED"


@pytest.mark.parametrize("damage", [_flip_a_pixel, _cut_off, _lose])
def test_a_file_that_is_damaged_while_its_study_waits(
    tmp_path: Path, clock, damage: Callable[[Path], None]
) -> None:
    """No forecast of other pixels than were received; the study says so, and heals when it is sent again."""
    node = Node(tmp_path, clock)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _quiet(node, clock)
    worker = Worker(node.engine, node.ledger, _nothing, node.data_dir)
    damaged = _file(node)
    damage(damaged)
    content = damaged.read_bytes() if damaged.exists() else None
    worker.step()
    assert node.states() == ["HELD"]
    assert node.revisions()[0].reason == SEND_AGAIN
    assert not damaged.exists()
    aside = [p.read_bytes() for p in (tmp_path / "spool" / "aside").rglob("*.dcm")]
    assert aside == ([] if content is None else [content]), "what is damaged is kept for a person"
    _send_again(node, clock)
    worker.step()
    assert node.states()[-1] == "DONE"


def test_headers_that_are_damaged_before_their_study_is_routed(tmp_path: Path, clock) -> None:
    node = Node(tmp_path, clock)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    for one in node.ledger.inputs(STUDY):
        (node.data_dir / one.path).write_bytes(b"\0" * 1000)
    _quiet(node, clock)
    assert node.states() == ["HELD"]
    assert node.revisions()[0].reason == SEND_AGAIN
    _send_again(node, clock)


def test_a_study_that_is_sent_again_without_need_stays_as_it_is(tmp_path: Path, clock) -> None:
    node = Node(tmp_path, clock)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    _quiet(node, clock)
    clock.advance(60)
    node.receive(ct_series(3, STUDY, SERIES, rows=16))
    node.assembler.step()
    assert node.states() == ["QUEUED"]
