"""What a worker does for one job: the forecast of a revision, as rows for the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dicom_node.errors import PermanentError
from dicom_node.forecast import Order, forecast
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import Plan, ResultRow
from dicom_node.settings import NodeSettings, Outputs
from dicom_node.worker import Execute, JobOrder
from inference.clinical.records import clinical_record


def forecasting(settings: NodeSettings) -> Execute:
    """Return the function that a worker executes its jobs with."""

    def execute(order: JobOrder, report: Report) -> Sequence[ResultRow]:
        row = order.revision
        if row.job_time is None:
            raise PermanentError("the revision was queued without a time")
        plan = Plan.from_json(row.plan)
        files = tuple(settings.data_dir / f.path for f in order.inputs)
        done = forecast(
            Order(
                files=files,
                job_time=datetime.fromtimestamp(row.job_time, UTC),
                pipeline=settings.pipeline(plan.regimens, plan.months),
                outputs=tuple(Outputs(o) for o in plan.outputs),
                clinical=clinical_record(settings.clinical_file, files),
            ),
            settings,
            order.folder,
            report,
        )
        return [
            ResultRow(
                peer=peer,
                kind=made.kind,
                sop_class_uid=made.sop_class_uid,
                sop_instance_uid=made.sop_instance_uid,
                study_instance_uid=row.study_instance_uid,
                series_instance_uid=made.series_instance_uid,
                path=str((order.folder / made.path).relative_to(settings.data_dir)),
                sha256=made.sha256,
            )
            for peer in plan.send_to
            for made in done.objects
        ]

    return execute
