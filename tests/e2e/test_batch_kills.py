"""A batch of archived studies in a real Orthanc, its run killed: complete, each exactly once."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dicom_node.batch.states import ENDED, BatchStudy
from dicom_node.database import audit, instance, reading, result_object
from dicom_node.demo.orthanc_peer import free_port
from tests.builders.batch_archive import (
    OURS,
    SLICES,
    ArchiveNode,
    archive_config,
    archive_node,
    archived_study,
    study_uid,
    upload,
)
from tests.builders.orthanc import Orthanc
from tests.builders.waiting import until

pytestmark = pytest.mark.e2e

NAME = "archive2019"


@contextmanager
def _archive(folder: Path, program: str, studies: int) -> Iterator[tuple[Orthanc, ArchiveNode]]:
    port = free_port()
    with Orthanc(program, {OURS: ("127.0.0.1", port)}) as orthanc:
        for number in range(1, studies + 1):
            upload(orthanc, archived_study(number))
        with archive_node(folder, archive_config(folder, orthanc, port)) as node:
            yield orthanc, node


def _status(node: ArchiveNode) -> dict[str, Any]:
    """Return what ``batch status --json`` says."""
    found = json.loads(node.command("status", NAME, "--json"))
    assert isinstance(found, dict)
    return found


def _ended(node: ArchiveNode) -> int:
    counts = node.batches.ledger.counts(node.batches.ledger.batch(NAME).id)
    return sum(counts.get(state, 0) for state in ENDED)


def _kill_during(node: ArchiveNode, ended: int, within_s: float, pause_s: float) -> dict[str, Any]:
    """Run the batch, kill the run after so many studies have ended, return the status after it."""
    run = node.start("run", NAME)
    try:
        until(lambda: _ended(node) >= ended or run.poll() is not None, within_s)
        threading.Event().wait(pause_s)
    finally:
        run.kill()
        code = run.wait()
    assert code == -9, (
        f"the run ended with {code} before it was killed\n{node.log.read_text(errors='replace')[-3000:]}"
    )
    return _status(node)


def _check_pause(node: ArchiveNode, studies: int) -> None:
    """A run of a paused batch retrieves nothing; a person ends it in the orderly way."""
    node.command("pause", NAME)
    run = node.start("run", NAME)
    try:
        until(lambda: _status(node)["activity"].startswith("paused"), within_s=120, every_s=0.2)
    finally:
        run.terminate()
        code = run.wait(60)
    assert code == 0
    status = _status(node)
    assert (status["state"], status["counts"]) == ("paused", {"PLANNED": studies})
    node.command("resume", NAME)


def _check_status(status: dict[str, Any], studies: int) -> None:
    assert status["total"] == studies
    assert sum(status["counts"].values()) == studies
    assert status["ended"] == status["counts"].get("DONE", 0)
    assert status["left"] == studies - status["ended"]
    assert status["share"] == pytest.approx(status["ended"] / studies)
    assert status["problems"] == []


def _check_each_once(node: ArchiveNode, orthanc: Orthanc, studies: int) -> None:
    """Each study came whole, was processed in one revision, and has one result in the archive."""
    batch = node.batches.ledger.batch(NAME)
    rows = node.batches.ledger.studies(batch.id)
    assert {row.study_instance_uid for row in rows} == {study_uid(n) for n in range(1, studies + 1)}
    assert Counter(row.state for row in rows) == {BatchStudy.DONE: studies}
    with reading(node.batches.database) as connection:
        originals = instance.c.made_here.is_(False)
        here = connection.execute(sa.select(instance).where(originals)).all()
        results = connection.execute(sa.select(result_object)).all()
        events = connection.execute(sa.select(audit.c.entity, audit.c.key, audit.c.event)).all()
    assert len(here) == studies * SLICES
    assert not any(row.conflicts for row in here)
    assert len(results) == studies
    for event, entity in (("all received", "batch study"), ("results delivered", "batch study")):
        assert Counter(e.key for e in events if (e.entity, e.event) == (entity, event)) == Counter(
            str(row.id) for row in rows
        )
    for event in ("opened", "rule forecasts", "job done", "all objects verified"):
        counted = Counter(e.key for e in events if (e.entity, e.event) == ("revision", event))
        assert len(counted) == studies, event
        assert set(counted.values()) == {1}, event
    for number in range(1, studies + 1):
        assert len(orthanc.instances(study_uid(number))) == SLICES + 1


def _killed_batch(folder: Path, program: str, studies: int, kills: int, within_s: float) -> None:
    chance = random.Random(studies)
    with _archive(folder, program, studies) as (orthanc, node):
        planned = json.loads(node.command("plan", NAME, "--peer", "archive", "--modality", "CT", "--json"))
        assert planned["retrieved"] == planned["studies"] == studies
        _check_pause(node, studies)
        seen = 0
        for kill in range(kills):
            status = _kill_during(node, 1 + kill * studies // (kills + 2), within_s, chance.uniform(0, 0.5))
            _check_status(status, studies)
            assert status["ended"] >= seen
            assert status["left"] > 0
            seen = status["ended"]
        run = node.start("run", NAME)
        try:
            until(lambda: run.poll() is not None, within_s)
        finally:
            run.kill()
        assert run.wait() == 0, node.log.read_text(errors="replace")[-3000:]
        final = _status(node)
        _check_status(final, studies)
        assert final["state"] == "ended"
        assert final["share"] == 1.0
        _check_each_once(node, orthanc, studies)


@pytest.mark.timeout(900)
def test_twelve_studies_and_two_kills(tmp_path: Path, needs_judge) -> None:
    _killed_batch(tmp_path, needs_judge("Orthanc"), studies=12, kills=2, within_s=600)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_hundred_studies_and_five_kills(tmp_path: Path, needs_judge) -> None:
    _killed_batch(tmp_path, needs_judge("Orthanc"), studies=300, kills=5, within_s=1800)
