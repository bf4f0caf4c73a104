"""``hepatocast assess scores``, ``eligibility`` and ``toxicity``: one row of a table, one patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.sheets import Cell, Sheet, check_out, show_or_write

if TYPE_CHECKING:
    from inference.clinical.eligibility import Finding

_TABLE = typer.Argument(
    metavar="FILE.csv",
    help="CSV or JSON; one row for each patient, one column for each variable, the unit in brackets: "
    "'albumin [g/L]'. An empty cell is a missing value.",
)
_OUT = typer.Option(help="Write all of it to FILE.csv or FILE.json instead of showing it.")

TableFile = Annotated[Path, _TABLE]
OutFile = Annotated[Path | None, _OUT]


def scores(
    table: TableFile,
    score: Annotated[
        list[str] | None, typer.Option(help="Only this score, by its name; may be given several times.")
    ] = None,
    out: OutFile = None,
) -> None:
    """Clinical scores of every row: ALBI, Child-Pugh, BCLC, CNLC, HAP and others.

    Units are converted and never guessed; a score that lacks a value says which one. A laboratory value
    may be dated: the column 'albumin @ -3 [g/L]' is of 3 days before treatment; the last value of the 30 days
    before is used where there is no plain column.

    Example, of a file patients.csv that says

        albumin [g/L],bilirubin [umol/L],afp [ng/mL],tumour_number,largest_tumour [mm]

        38,17,210,2,45

    hepatocast assess scores patients.csv --score albi --score hap
    """
    from inference.clinical.longitudinal import with_last_values
    from inference.clinical.patient_rows import read_patient_rows
    from inference.clinical.score_table import SCORES
    from inference.clinical.score_table import score as score_of
    from inference.results import NotAssessed

    check_out(out)
    wanted = tuple(score or SCORES)
    if unknown := [name for name in wanted if name not in SCORES]:
        raise typer.BadParameter(f"no score is called {unknown[0]!r}; there are {', '.join(SCORES)}")
    shown: list[tuple[Cell, ...]] = []
    whole: list[tuple[Cell, ...]] = []
    for row in read_patient_rows(table):
        record = with_last_values(row.record)
        found = {name: score_of(name, record) for name in wanted}
        values: list[Cell] = []
        needed: dict[str, None] = {}
        for name, value in found.items():
            lacks = value.detail.partition(" needs ")[2].rstrip(".") if isinstance(value, NotAssessed) else ""
            values.append(None if isinstance(value, NotAssessed) else value)
            needed |= dict.fromkeys(lacks.split(", ") if lacks else ())
            shown.append((row.place, SCORES[name].title, values[-1], lacks or None))
        whole.append((row.place, *values, ", ".join(needed) or None))
    show_or_write(
        Sheet(("row", "score", "value", "needs"), tuple(shown)),
        Sheet(("row", *wanted, "missing"), tuple(whole)),
        out,
    )


def eligibility(table: TableFile, out: OutFile = None) -> None:
    """Eligibility of every row under the study protocol: met, not met or unknown, criterion by criterion.

    Shown are the criteria that are not met or unknown; --out writes all of them. What the protocol asks
    beside the clinical variables are columns too, such as unresectable_hcc, expected_survival [months],
    hiv or qtc [ms]. A missing value leaves its criterion unknown; nothing is assumed.

    Example: hepatocast assess eligibility patients.csv --out criteria.csv
    """
    from inference.clinical.eligibility import Answer, assess, overall
    from inference.clinical.longitudinal import with_last_values
    from inference.clinical.patient_rows import read_patient_rows

    check_out(out)
    shown: list[tuple[Cell, ...]] = []
    whole: list[tuple[Cell, ...]] = []
    for row in read_patient_rows(table):
        findings = assess(with_last_values(row.record))
        conclusion = _words(overall(findings))
        shown.append((row.place, conclusion, "all criteria", None))
        for finding in findings:
            cells = _finding(finding)
            whole.append((row.place, conclusion, *cells))
            if finding.answer is not Answer.MET:
                shown.append((None, cells[2], f"{cells[0]}: {cells[1]}", _remark(finding)))
    columns = ("row", "overall", "place", "criterion", "answer", "missing", "note")
    show_or_write(
        Sheet(("row", "answer", "criterion", "missing"), tuple(shown)), Sheet(columns, tuple(whole)), out
    )


def _words(answer: str) -> str:
    return str(answer).replace("_", " ")


def _finding(finding: Finding) -> tuple[str, str, str, str | None, str | None]:
    missing = ", ".join(finding.missing) or None
    return finding.place, finding.criterion, _words(finding.answer), missing, finding.note or None


def _remark(finding: Finding) -> str | None:
    return "; ".join(part for part in (", ".join(finding.missing), finding.note) if part) or None


def toxicity(table: TableFile, out: OutFile = None) -> None:
    """CTCAE v5.0 grades of every row, for the adverse events that the study protocol reports.

    A figure is graded against its limits of normal and its baseline: 'alt [U/L]', 'alt_upper_limit [U/L]',
    'alt_baseline [U/L]'. With dated columns, 'alt @ 14 [U/L]' for day 14 after the start of treatment,
    every day after 0 is graded and the worst counts; the last value of day 0 or before is the baseline. What
    only a clinician can grade is a column of grades: fatigue, rash_maculo_papular, pneumonitis.

    Example, of a file course.csv that says

        alt @ -2 [U/L],alt @ 7 [U/L],alt @ 28 [U/L],alt_upper_limit [U/L],fatigue

        35,240,80,40,1

    hepatocast assess toxicity course.csv
    """
    from inference.clinical.patient_rows import read_patient_rows
    from inference.clinical.toxicity import adverse_events
    from inference.errors import ClinicalError

    check_out(out)
    rows: list[tuple[Cell, ...]] = []
    for row in read_patient_rows(table):
        try:
            events = adverse_events(row.record)
        except ClinicalError as error:
            raise ClinicalError(f"Clinical file, {row.place}: {error}") from error
        for event in events:
            by = "clinician" if event.reported else "figures"
            rows.append((row.place, event.term, event.grade, event.day, by, event.note or None))
    sheet = Sheet(("row", "term", "grade", "day", "by", "note"), tuple(rows))
    show_or_write(sheet, sheet, out)
