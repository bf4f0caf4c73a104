"""A node with studies in many states, as an operator meets them; a driven clock and no models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dicom_node.audit.forecasts import lock_forecast, made_forecast
from dicom_node.database import reading, result_object
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import PROPOSAL, ResultRow
from dicom_node.jobs.reviews import Reviews
from dicom_node.jobs.states import ObjectEvent, RevisionEvent
from tests.builders.dicom_files import ct_series, uid_of
from tests.builders.nodes import Node

REGIMENS = ("tace", "sorafenib", "atezolizumab_bevacizumab")
KINDS = ("virtual_series", "segmentation", "report", "charts", "pdf")


def result_document(recommended: str | None = "tace") -> dict[str, Any]:
    """Return the parts of a result.json that operation reads."""
    survival = [
        {"p12": 0.71, "p24": 0.48, "p36": 0.31, "median": 22.4},
        {"p12": 0.58, "p24": 0.30, "p36": 0.17, "median": 14.9},
        {"assessed": False, "reason": "no bundle is trained for it"},
    ]
    return {
        "schema": 1,
        "regimens": [{"id": r, "os": os} for r, os in zip(REGIMENS, survival, strict=True)],
        "comparison": {"recommended": recommended},
        "timings_s": {"load": 0.4, "segment": 2.5, "generate": 11.0, "report": 1.5, "total": 15.4},
    }


@dataclass
class OperatedNode:
    """Makes studies and brings them into states."""

    node: Node
    clock: Any

    def study(self, name: str, slices: int = 3) -> str:
        """Receive one study; returns its UID."""
        study = uid_of("operated", name)
        self.node.receive(ct_series(slices, study, uid_of(study, "series"), rows=16))
        return study

    def queued(self, name: str) -> int:
        """Receive a study and bring it to QUEUED; returns its revision."""
        study = self.study(name)
        self.node.assembler.step()
        self.clock.advance(11)
        self.node.assembler.step()
        row = self.node.ledger.revisions(study_instance_uid=study)[-1]
        assert str(row.state) == "QUEUED", row
        return row.id

    def forecast(self, name: str, recommended: str | None = "tace") -> int:
        """Bring a study to DONE, with result objects and a locked forecast."""
        revision = self.queued(name)
        self.node.engine.run_one(lambda _job, report: self._finish(revision, recommended, report))
        return revision

    def _finish(self, revision: int, recommended: str | None, report: Report) -> None:
        ledger = self.node.ledger
        row = ledger.start(revision)
        report("writing objects", 0.5)
        folder = self.node.data_dir / "results" / str(revision) / str(row.fence)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(result_document(recommended)))
        rows = [self._object(revision, folder, kind, number) for number, kind in enumerate(KINDS)]
        made = made_forecast(folder, [(r.sop_instance_uid, r.sha256) for r in rows])
        ledger.accept_results(
            revision,
            row.fence,
            rows,
            lambda connection: lock_forecast(connection, self.clock, row.id, row.fence, made),
        )

    def _object(self, revision: int, folder: Path, kind: str, number: int) -> ResultRow:
        path = folder / f"{kind}.dcm"
        path.write_bytes(f"{revision} {kind}".encode())
        study = self.node.ledger.revision(revision).study_instance_uid
        return ResultRow(
            peer="pacs",
            kind=kind,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
            sop_instance_uid=f"2.25.77{revision}{number}",
            study_instance_uid=study,
            series_instance_uid=f"2.25.88{revision}{number}",
            path=str(path.relative_to(self.node.data_dir)),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )

    def delivered(self, name: str) -> int:
        """Bring a study to DELIVERED."""
        revision = self.forecast(name)
        ledger = self.node.ledger
        ledger.change(revision, RevisionEvent.DELIVERY_STARTED)
        ids = self.object_ids(revision)
        for event in (
            ObjectEvent.STORED_BY_PEER,
            ObjectEvent.COMMITTED_BY_PEER,
            ObjectEvent.READ_BACK_EQUAL,
        ):
            ledger.change_objects(ids, event, "committed, and read back equal")
        ledger.change(revision, RevisionEvent.ALL_VERIFIED)
        return revision

    def object_ids(self, revision: int) -> Sequence[int]:
        """Return the row numbers of a revision's objects."""
        query = sa.select(result_object.c.id).where(result_object.c.revision_id == revision)
        with reading(self.node.database) as connection:
            return connection.execute(query).scalars().all()

    def refused(self, name: str, reason: str = "There is no liver segmentation in the study.") -> int:
        """Bring a study to REFUSED."""
        revision = self.queued(name)
        row = self.node.ledger.start(revision)
        self.node.ledger.end(revision, row.fence, RevisionEvent.INPUT_REFUSED, reason)
        self.node.engine.cancel(row.job_key)
        return revision

    def failed(self, name: str) -> int:
        """Bring a study to FAILED."""
        revision = self.queued(name)
        row = self.node.ledger.start(revision)
        self.node.ledger.end(revision, row.fence, RevisionEvent.JOB_FAILED, "the bundle is damaged")
        self.node.engine.cancel(row.job_key)
        return revision

    def in_review(self, name: str) -> int:
        """Bring a study to REVIEW."""
        revision = self.queued(name)
        row = self.node.ledger.start(revision)
        proposal = ResultRow(
            "pacs", PROPOSAL, "1.2", f"2.25.99{revision}", row.study_instance_uid, "2.25.1", "p.dcm", "0" * 64
        )
        reason = "The outlines are uncertain: two networks agree to 0.61 only."
        Reviews(self.node.ledger).hold(revision, row.fence, reason, "models", [proposal])
        self.node.engine.cancel(row.job_key)
        return revision

    def running(self, name: str, text: str, share: float) -> int:
        """Bring a study to RUNNING, with some progress, and leave it there."""
        revision = self.queued(name)
        self.node.ledger.start(revision)
        taken = self.node.engine._take()  # a worker that is at work, without its thread
        assert taken is not None
        self.node.engine._report(taken[0])(text, share)
        return revision
