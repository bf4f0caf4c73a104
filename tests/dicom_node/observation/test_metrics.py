"""Metrics: documented, parsed by Prometheus' own parser, and right."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.errors import PermanentError
from dicom_node.observation import listener
from dicom_node.observation.counters import Tally, flushing, read_counts, write_counts
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.observation.metrics import MEASURES, NodeCollector, exposition
from dicom_node.observation.tables import prepare_observation
from dicom_node.observation.work import REASONS, WorkCounts, reason_class
from inference.errors import GeometryError, RejectedInput, SegmentationMissing
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import page_settings


@pytest.fixture
def operated(tmp_path, clock) -> OperatedNode:
    node = Node(tmp_path / "data", clock)
    prepare_observation(node.database)
    return OperatedNode(node, clock)


def _scraped(operated: OperatedNode) -> dict[tuple[str, ...], float]:
    settings = page_settings(operated.node.data_dir)
    collector = NodeCollector(settings, operated.node.database, operated.clock, lambda _: 5 * 10**9)
    text = exposition(collector).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_measure_is_documented_and_named_by_the_rules():
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    for measure in MEASURES:
        assert re.fullmatch(r"hepatocast_[a-z_]+", measure.name)
        assert measure.help.endswith(".")
        assert (measure.family.__name__ == "CounterMetricFamily") == measure.name.endswith("_total")


def test_states_queue_and_outbox(operated):
    operated.refused("a")
    operated.forecast("b")
    operated.clock.advance(100)
    operated.queued("c")
    operated.clock.advance(50)
    found = _scraped(operated)
    assert found["hepatocast_study_revisions", "REFUSED"] == 1
    assert found["hepatocast_study_revisions", "DONE"] == 1
    assert found["hepatocast_study_revisions", "HELD"] == 0
    assert found["hepatocast_state_changes_total", "QUEUED"] == 3
    assert found["hepatocast_jobs", "ready"] == 1
    assert found[("hepatocast_oldest_queued_study_seconds",)] == 50
    assert found["hepatocast_outbox_objects", "pacs", "READY"] == 5
    assert found["hepatocast_outbox_oldest_seconds", "pacs"] == 161
    assert found[("hepatocast_disk_free_bytes",)] == 5e9
    assert found["hepatocast_bundle_in_force", "survival", _digest(found, "survival")] == 1
    assert not [key for key in found if key[0] == "hepatocast_metric_failed"]


def _digest(found: dict[tuple[str, ...], float], part: str) -> str:
    return next(key[2] for key in found if key[:2] == ("hepatocast_bundle_in_force", part))


def test_counters_of_listeners_and_workers_add_up_over_machines_and_restarts(operated):
    database = operated.node.database
    for host in ("a", "a", "b"):
        tally = Tally()
        with flushing(tally, database, host, every_s=60):
            tally.add(listener.INSTANCES)
            tally.add(listener.BYTES, amount=500.0)
            tally.add(listener.REFUSED, "calling AE title not recognised")
    work = WorkCounts(database, "a")
    work.forecast({"generate": 10.0, "report": 1.0})
    work.forecast({"generate": 14.0, "report": 2.0})
    work.ended(SegmentationMissing("no liver"))
    found = _scraped(operated)
    assert found[("hepatocast_instances_received_total",)] == 3
    assert found[("hepatocast_received_bytes_total",)] == 1500
    assert found["hepatocast_associations_refused_total", "calling AE title not recognised"] == 3
    assert found["hepatocast_stage_seconds_sum", "generate"] == 24
    assert found["hepatocast_stage_seconds_count", "generate"] == 2
    assert found["hepatocast_studies_not_forecast_total", "segmentation missing"] == 1


def test_processes(operated):
    beats = Heartbeats(operated.node.database, operated.clock)
    beats.beat("worker", "a", 1)
    beats.beat("worker", "b", 2)
    operated.clock.advance(40)
    beats.beat("worker", "b", 2)
    found = _scraped(operated)
    assert found["hepatocast_processes_alive", "worker"] == 1
    assert found["hepatocast_processes_alive", "listener"] == 0
    assert found["hepatocast_heartbeat_age_seconds", "a:1", "worker"] == 40


def test_one_metric_that_cannot_be_read_leaves_the_others(operated):
    def no_disk(_folder) -> int:
        raise OSError("gone")

    settings = page_settings(operated.node.data_dir)
    text = exposition(NodeCollector(settings, operated.node.database, operated.clock, no_disk)).decode()
    assert 'hepatocast_metric_failed{metric="hepatocast_disk_free_bytes"} 1.0' in text
    assert "hepatocast_study_revisions" in text
    assert "\nhepatocast_disk_free_bytes " not in text


def test_counts_that_could_not_be_written_are_not_lost(operated, monkeypatch):
    from sqlalchemy.exc import OperationalError

    tally = Tally()

    def locked(*_arguments) -> None:
        raise OperationalError("", {}, Exception("locked"))

    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.observation.counters.write_counts", locked)
        with flushing(tally, operated.node.database, "a", every_s=60):
            tally.add("x")
    with flushing(tally, operated.node.database, "a", every_s=60):
        tally.add("x")
    assert read_counts(operated.node.database)["x", ""] == 2


def test_notes_replace_each_other(operated):
    for value in (3.0, 2.0):
        write_counts(operated.node.database, "a", {}, {("open", ""): value})
    assert read_counts(operated.node.database)["open", ""] == 2


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (GeometryError("x"), "geometry"),
        (RejectedInput("x"), "input not suitable"),
        (PermanentError("x"), "node failed"),
        (KeyError("x"), "internal error"),
    ],
)
def test_reasons_have_classes(error, label):
    assert reason_class(error) == label


def test_no_class_of_reasons_hides_another():
    for index, (kind, _) in enumerate(REASONS):
        assert not any(issubclass(kind, earlier) for earlier, _ in REASONS[:index])


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0xA700, "out of resources"),
        (0xA9FF, "data set does not match SOP class"),
        (0xC123, "cannot understand"),
        (0x0117, "invalid SOP instance"),
        (0x0110, "other reason"),
    ],
)
def test_statuses_have_classes(status, reason):
    assert listener.store_refusal(status) == reason
