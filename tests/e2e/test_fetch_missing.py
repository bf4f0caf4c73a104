"""A study that came in part is completed from the PACS before it is processed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom_node.database import instance, open_database, reading
from dicom_node.demo.orthanc_peer import free_port
from dicom_node.network.scu import read_part10, store_session
from dicom_node.settings import PeerSettings
from tests.builders.dicom_files import ct_series
from tests.builders.orthanc import Orthanc
from tests.builders.outboxes import OURS, orthanc_peer
from tests.builders.serving import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

STUDY, SERIES = "1.2.826.5", "1.2.826.5.1"
COUNT, SENT = 12, 5


def _send(peer: PeerSettings, calling_ae_title: str, paths: list[Path]) -> None:
    objects = [read_part10(p) for p in paths]
    kinds = [(o.sop_class_uid, o.transfer_syntax_uid) for o in objects]
    with store_session(peer, calling_ae_title, kinds) as session:
        for item in objects:
            session.store(item)


def test_missing_instances_are_fetched_from_orthanc(tmp_path: Path, needs_judge) -> None:
    paths = []
    for number, ds in enumerate(ct_series(COUNT, STUDY, SERIES, rows=16)):
        paths.append(tmp_path / f"{number}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    port = free_port()
    with Orthanc(needs_judge("Orthanc"), {OURS: ("127.0.0.1", port)}) as orthanc:
        peer = orthanc_peer(orthanc, query=True, retrieve=True)
        rule = {"name": "nothing", "when": "true", "action": "ignore", "reason": "only received"}
        assembly = {"series_quiet_period_s": 1, "study_quiet_period_s": 1, "confirm_with": "pacs"}
        with serving(tmp_path, port, peers=[peer], rules=[rule], assembly=assembly) as node:
            _send(node.settings.peer("pacs"), OURS, paths)
            ours = PeerSettings(name="node", ae_title=OURS, host="127.0.0.1", port=port)
            _send(ours, orthanc.ae_title, paths[:SENT])
            node.until_state("IGNORED", within_s=60)
            with reading(open_database(node.settings.data_dir)) as connection:
                rows = connection.execute(sa.select(instance)).all()
    assert len(rows) == COUNT
    assert not any(row.conflicts for row in rows)
    assert {row.calling_ae_title for row in rows} == {orthanc.ae_title}
