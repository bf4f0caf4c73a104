"""Operation on PostgreSQL is the same: page, metrics, alerts, audit trail, retention."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dicom_node.audit.decisions import Choice, Decisions, Verdict
from dicom_node.audit.trail import AuditTrail
from dicom_node.audit.verification import verify_trail
from dicom_node.database import open_database
from dicom_node.intake.index import Index
from dicom_node.intake.spool import Spool
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.opening import open_engine
from dicom_node.observation.alerts import Alerts
from dicom_node.observation.heartbeats import Heartbeats
from dicom_node.observation.metrics import NodeCollector, exposition
from dicom_node.observation.work import WorkCounts
from dicom_node.operation_settings import RetentionSettings
from dicom_node.retention import ASIDE_S, Retention
from dicom_node.storage.local import local_store
from tests.builders.nodes import Node
from tests.builders.operated import OperatedNode
from tests.builders.pages import PageOfNode, page_settings


@dataclass
class PostgresqlNode(Node):
    """The inside of a node whose rows are in PostgreSQL."""

    url: str = ""

    def __post_init__(self) -> None:
        self.database = open_database(self.data_dir, self.url)
        spool = Spool(self.data_dir, minimum_free_bytes=0)
        spool.incoming.mkdir(parents=True, exist_ok=True)
        self.index = Index(self.database, spool, self.clock)
        self.ledger = Ledger(self.database, self.clock)
        self.engine = open_engine(self.jobs, self.database, self.clock, "node")
        self.restart()


@pytest.fixture
def operated(tmp_path, clock, database_url) -> OperatedNode:
    node = PostgresqlNode(tmp_path / "data", clock, url=database_url)
    yield OperatedNode(node, clock)
    node.database.dispose()


def test_operation_on_postgresql(operated, clock):
    node = operated.node
    revision = operated.delivered("a")
    refused = operated.refused("b")
    settings = page_settings(node.data_dir)
    Heartbeats(node.database, clock).beat("worker", "a", 1)
    WorkCounts(node.database, "a").forecast({"generate": 2.0})
    Alerts(node.database, clock).update("disk", {"": "little room"})
    Decisions(node.database, clock).add(revision, Choice("dr.lee", Verdict.AGREE, "tace", "as forecast"))

    text = exposition(NodeCollector(settings, node.database, clock, lambda _: 10**9)).decode()
    found = {
        (s.name, *s.labels.values()): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    assert found["hepatocast_study_revisions", "DELIVERED"] == 1
    assert found["hepatocast_state_changes_total", "QUEUED"] == 2
    assert found["hepatocast_stage_seconds_sum", "generate"] == 2
    assert not [key for key in found if key[0] == "hepatocast_metric_failed"]

    page = PageOfNode(node, settings)
    client = page.logged_in("anna")
    assert "little room" in client.get("/?group=attention").text
    assert "as forecast" in client.get(f"/studies/{revision}").text
    assert client.get("/node").status_code == 200

    trail = AuditTrail(settings, node.database, clock, local_store(node.data_dir))
    assert trail.step() > 8
    assert trail.step() == 0
    assert verify_trail(settings, node.database, clock).problems == ()

    retention = Retention(
        node.database, RetentionSettings(refused_inputs_days=1), local_store(node.data_dir), clock
    )
    clock.advance(2 * 86400)
    assert retention.step()[0] == 1
    clock.advance(ASIDE_S)
    assert retention.finish() == 3
    assert node.ledger.inputs(node.ledger.revision(refused).study_instance_uid) == ()
