"""One forecast from files to objects: what ``run`` does on a folder and a worker does for a job."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dicom_node.digests import data_set_sha256, inputs_digest
from dicom_node.jobs.ledger import PROPOSAL
from dicom_node.settings import NodeSettings, Outputs
from inference.case import Case, ClinicalRecord
from inference.errors import ReviewNeeded
from inference.imaging.reading import read_case
from inference.models.protocols import Progress
from inference.pipeline import Bundles, run
from inference.provenance import MANUFACTURER
from inference.randomness import RandomStreams
from inference.results import BundleInfo, ClinicalSummary, NotAssessed, Reason, StudyResults
from inference.settings import PipelineSettings
from reporting.context import Context, Equipment, Qualification
from reporting.outputs import WrittenObject, build, write_objects
from reporting.result_json import result_document
from reporting.uids import Uids

SHARE_OF_PIPELINE = 0.6
"""Of the progress bar; the rest is writing objects."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to forecast, and under which clock."""

    files: tuple[Path, ...]
    job_time: datetime
    pipeline: PipelineSettings
    outputs: tuple[Outputs, ...] = tuple(Outputs)
    clinical: ClinicalRecord = field(default_factory=ClinicalRecord)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What was written, and the document that describes it (``result.json``)."""

    objects: tuple[WrittenObject, ...]
    document: Mapping[str, Any]


def equipment(settings: NodeSettings) -> Equipment:
    """Return the node as DICOM equipment."""
    return Equipment(
        manufacturer=MANUFACTURER,
        model_name="Hepatocast node",
        software_version=version("hepatocast"),
        device_serial_number=settings.device_serial_number,
    )


def case_digest(case: Case) -> str:
    """Return the digest of all instances of a case, whatever their files are called."""
    return inputs_digest(
        {i.sop_instance_uid: data_set_sha256(i.path) for series in case.series for i in series.instances}
    )


PROPOSAL_DESCRIPTION = "PROPOSAL, check and correct outlines"
"""Series Description (0008,103E) of outlines that wait for review; at most 64 characters."""

BYTES_DEPEND_ON = (
    "numpy",
    "scipy",
    "simpleitk",
    "pydicom",
    "highdicom",
    "pillow",
    "matplotlib",
    "fpdf2",
)
"""Distributions whose versions may change the bytes of an output object."""


def backend() -> str:
    """Return what computed the numbers and drew the pictures: other versions may do it otherwise."""
    versions = " ".join(f"{name} {version(name)}" for name in BYTES_DEPEND_ON)
    return f"cpu {platform.machine()} float32 {versions}"


def job_key(
    order: Order, inputs_sha256: str, bundles: Mapping[str, BundleInfo], settings: NodeSettings
) -> str:
    """Return a digest of everything that changes bytes; all UIDs of the job derive from it.

    `bundles` are those that were used: where one segmenter was passed over, the one after it.
    """
    facts = {
        "inputs": inputs_sha256,
        "bundles": {name: info.sha256 for name, info in bundles.items()},
        "pipeline": order.pipeline.model_dump(mode="json"),
        "outputs": [str(o) for o in order.outputs],
        "clinical": {n: [str(v.value), v.unit] for n, v in sorted(order.clinical.values.items())},
        **_over_time_and_in_words(order.clinical),
        "job_time": order.job_time.astimezone(UTC).isoformat(),
        "equipment": [str(v) for v in (MANUFACTURER, version("hepatocast"), settings.device_serial_number)],
        "qualification": settings.content_qualification,
        "backend": backend(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _over_time_and_in_words(clinical: ClinicalRecord) -> dict[str, Any]:
    """Return what a record holds beside its values, nothing where it holds nothing."""
    facts: dict[str, Any] = {}
    if clinical.dated:
        facts["dated"] = [[v.name, v.days, v.value] for v in clinical.dated]
    if clinical.texts:
        facts["texts"] = [[t.source, t.encoder, list(t.vector)] for t in clinical.texts]
    return facts


def forecast(
    order: Order, settings: NodeSettings, out: Path, progress: Progress, bundles: Bundles | None = None
) -> Forecast:
    """Run the pipeline on the files of one study and write every object and ``result.json``.

    Parameters
    ----------
    bundles : Bundles, optional
        The models; those that are shipped where none are given.

    Raises
    ------
    inference.errors.RejectedInput
        The study is refused; the message is the reason that people read.
    inference.errors.ReviewNeeded
        The outlines of a program are doubtful; see `write_proposal`.
    inference.errors.ModelError
        A bundle is damaged or failed.
    """
    case: Case = replace(read_case(order.files), clinical=order.clinical)
    models = Bundles.shipped() if bundles is None else bundles
    results = run(
        case,
        order.pipeline,
        models,
        RandomStreams(order.pipeline.seed),
        lambda text, share: progress(text, SHARE_OF_PIPELINE * share),
    )
    started = time.perf_counter()
    key = job_key(order, case_digest(case), results.bundles, settings)
    progress("writing objects", SHARE_OF_PIPELINE)
    written = write_objects(build(results, _context(order, settings, key), order.outputs), out)
    document = result_document(results, written, report_s=time.perf_counter() - started)
    (out / "result.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    progress("done", 1.0)
    return Forecast(tuple(written), document)


def _context(order: Order, settings: NodeSettings, key: str) -> Context:
    return Context(
        job_time=order.job_time,
        uids=Uids(key),
        equipment=equipment(settings),
        qualification=Qualification(settings.content_qualification),
    )


def write_proposal(
    needed: ReviewNeeded, order: Order, settings: NodeSettings, out: Path
) -> tuple[WrittenObject, ...]:
    """Write doubtful outlines as a segmentation that people can correct; nothing is forecast.

    The object says in its description that it is a proposal, and has UIDs of its own.
    """
    case = read_case(order.files)
    bundles = {"segmenter": needed.segmentation.bundle}
    results = StudyResults(
        baseline=needed.baseline,
        segmentation=needed.segmentation,
        baseline_lesions=(),
        clinical=ClinicalSummary(order.clinical, (), {}, {}),
        forecasts=(),
        comparison=NotAssessed(Reason.COMPARISON_NOT_SUPPORTED, "nothing was forecast"),
        bundles=bundles,
        seed=order.pipeline.seed,
        timings_s={},
    )
    key = job_key(order, case_digest(case), bundles, settings)
    context = _context(order, settings, hashlib.sha256(f"proposal {key}".encode()).hexdigest())
    objects = [replace(o, kind=PROPOSAL) for o in build(results, context, [Outputs.SEGMENTATION])]
    for item in objects:
        item.dataset.SeriesDescription = PROPOSAL_DESCRIPTION
    return tuple(write_objects(objects, out))
