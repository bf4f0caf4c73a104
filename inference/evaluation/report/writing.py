"""Writes an evaluation: ``metrics.json``, ``report.html``, ``report.pdf``."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from inference.evaluation.report.checklist import filled_checklist
from inference.evaluation.report.content import report_of
from inference.evaluation.report.evaluation import Evaluation
from inference.evaluation.report.metrics_document import metrics_document, missing_figures
from inference.evaluation.report.paper import pdf_report
from inference.evaluation.report.web_page import html_page

METRICS, PAGE, PAPER = "metrics.json", "report.html", "report.pdf"


def write_evaluation(folder: Path, evaluation: Evaluation, written: datetime) -> tuple[Path, ...]:
    """Write the three files into a folder, which is made if absent; returns their paths.

    Parameters
    ----------
    written : datetime
        Date of the PDF, with a time zone; the other two files depend on the evaluation alone.
    """
    checklist = filled_checklist(evaluation)
    document = metrics_document(evaluation, checklist)
    report = report_of(evaluation, missing_figures(document), checklist)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / METRICS).write_text(text + "\n", encoding="utf-8")
    (folder / PAGE).write_text(html_page(report), encoding="utf-8")
    (folder / PAPER).write_bytes(pdf_report(report, written))
    return tuple(folder / name for name in (METRICS, PAGE, PAPER))
