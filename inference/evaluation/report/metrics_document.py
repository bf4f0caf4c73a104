"""``metrics.json``: every figure, readable by programs.

``schema``, ``title``, ``predictions_sha256``, ``plan``, ``models`` (as in ``models.json``), ``patients``
(flow and baseline by split), ``sets``, ``sample_size``, ``published``, ``not_computed`` and ``checklist``.
A set has ``end_points`` (``os``, ``pfs``) and ``response``; each has ``models`` with ``figures``, whose keys
are measures and measures at months (``auc@24``), and ``pairs`` with paired ``differences``. A figure is
``{value, lower, upper, n}``, the limits of 95 %; one that cannot be computed is ``{not_computed: reason}``,
and null is a number that does not exist. The same predictions, plan and program give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference.evaluation.report.checklist import FilledItem
from inference.evaluation.report.evaluation import LIMITS, Evaluation
from inference.evaluation.report.plain_figures import Gap, gaps, plain
from inference.evaluation.report.published import WHY_NOT_COMPARED, published_results

SCHEMA = "hepatocast-evaluation-of-predictions-1"


def metrics_document(evaluation: Evaluation, checklist: Sequence[FilledItem]) -> dict[str, Any]:
    """Return the document as plain values."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "title": evaluation.predictions.study.title,
        "predictions_sha256": evaluation.predictions.digest,
        "plan": evaluation.plan.model_dump(mode="json"),
        "models": [m.entry.model_dump(mode="json") for m in evaluation.predictions.models],
        "patients": plain(evaluation.patients),
        "sets": plain(evaluation.sets),
        "sample_size": plain(evaluation.sizes),
        "published": {
            "why_not_compared": WHY_NOT_COMPARED,
            "results": [r.model_dump(mode="json") for r in published_results()],
        },
        "columns_without_subgroup": list(evaluation.unused),
        "limits": list(LIMITS),
        "checklist": plain(checklist),
    }
    document["not_computed"] = [{"where": list(g.where), "why": g.why} for g in missing_figures(document)]
    return document


def missing_figures(document: dict[str, Any]) -> list[Gap]:
    """Return what could not be computed among sets and sizes."""
    return list(gaps({k: document[k] for k in ("sets", "sample_size")}))
