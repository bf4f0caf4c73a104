"""What a worker does for one job: the forecast of a revision, as rows for the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dicom_node.bundles.loading import load_bundles
from dicom_node.errors import PermanentError, TransientError
from dicom_node.forecast import Order, forecast, write_proposal
from dicom_node.jobs.engine import Report
from dicom_node.jobs.ledger import Plan, ResultRow
from dicom_node.settings import NodeSettings, Outputs
from dicom_node.worker import Execute, HeldForReview, JobOrder, proposal_folder
from inference.case import ClinicalRecord
from inference.clinical.sources.table import study_record
from inference.errors import ClinicalSourceAway, ReviewNeeded
from inference.settings import Doubtful
from reporting.outputs import WrittenObject


def forecasting(settings: NodeSettings) -> Execute:
    """Return the function that a worker executes its jobs with."""

    def execute(order: JobOrder, report: Report) -> Sequence[ResultRow]:
        plan = Plan.from_json(order.revision.plan)
        wanted = _order(order, plan, settings)
        bundles = load_bundles(order.models, settings)
        try:
            done = forecast(wanted, settings, order.folder, report, bundles)
        except ReviewNeeded as needed:
            kept = proposal_folder(order.folder)
            sent = settings.review.send_proposal
            made = write_proposal(needed, wanted, settings, order.folder) if sent else ()
            raise HeldForReview(str(needed), _rows(order, plan, made, kept)) from needed
        return _rows(order, plan, done.objects, order.folder)

    return execute


def _order(order: JobOrder, plan: Plan, settings: NodeSettings) -> Order:
    if order.revision.job_time is None:
        raise PermanentError("the revision was queued without a time")
    files = tuple(order.files[f.path] for f in order.inputs)
    pipeline = settings.pipeline(plan.regimens, plan.months)
    if order.released:
        pipeline = pipeline.model_copy(update={"doubtful": Doubtful.ACCEPT})
    return Order(
        files=files,
        job_time=datetime.fromtimestamp(order.revision.job_time, UTC),
        pipeline=pipeline,
        outputs=tuple(Outputs(o) for o in plan.outputs),
        clinical=_clinical(settings, files),
    )


def _clinical(settings: NodeSettings, files: Sequence[Path]) -> ClinicalRecord:
    """Return the clinical values of the study; a source that is away is asked again with the job."""
    try:
        return study_record(settings.clinical_sources, files)
    except ClinicalSourceAway as error:
        raise TransientError(str(error)) from error


def _rows(order: JobOrder, plan: Plan, objects: Iterable[WrittenObject], folder: Path) -> list[ResultRow]:
    """Return a row for each object and peer; `folder` is where the objects will be."""
    return [
        ResultRow(
            peer=peer,
            kind=made.kind,
            sop_class_uid=made.sop_class_uid,
            sop_instance_uid=made.sop_instance_uid,
            study_instance_uid=order.revision.study_instance_uid,
            series_instance_uid=made.series_instance_uid,
            path=order.key(folder / made.path),
            sha256=made.sha256,
        )
        for made in objects
        for peer in plan.send_to
    ]
