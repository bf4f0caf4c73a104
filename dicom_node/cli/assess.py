"""``hepatocast assess``: clinical calculators on a table."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dicom_node.cli.assess_patients import OutFile, eligibility, scores, toxicity
from dicom_node.cli.assess_samplesize import samplesize
from dicom_node.cli.sheets import Sheet, check_out, show_or_write

if TYPE_CHECKING:
    from inference.clinical.assessments import AssessedTable
    from inference.clinical.rates import Proportion

app = typer.Typer(no_args_is_help=True, help="Clinical calculators on a CSV table.")


@app.callback()
def assess() -> None:
    """Clinical calculators on a CSV table."""


app.command()(scores)
app.command()(eligibility)
app.command()(toxicity)
app.command()(samplesize)


@app.command()
def response(
    table: Annotated[Path, typer.Argument(help="CSV with baseline_mm, current_mm and optional columns.")],
    criteria: Annotated[
        Literal["recist11", "mrecist"],
        typer.Option(help="recist11: diameters of whole lesions; mrecist: of their viable parts."),
    ] = "recist11",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
    out: OutFile = None,
) -> None:
    """Response category of every row, and the rates with exact 95 % limits.

    Optional columns: nadir_mm, new_lesions (yes/no), non_target (none, CR, non-CR/non-PD, PD, NE) and
    targets_gone (yes/no; needed where lymph nodes are among the targets).

    Example: hepatocast assess response sums.csv --criteria mrecist
    """
    from inference.clinical.assessments import Criteria, assess_table

    check_out(out)
    result = assess_table(table, Criteria(criteria))
    if out is not None:
        rows = tuple((row.row, row.category.value, row.change_pct) for row in result.rows)
        sheet = Sheet(("row", "category", "change_pct"), rows)
        show_or_write(sheet, sheet, out)
    elif as_json:
        typer.echo(json.dumps({"criteria": criteria, **asdict(result)}, indent=1))
    else:
        typer.echo(_text(result))


def _text(result: AssessedTable) -> str:
    lines = ["row  category  change"]
    for row in result.rows:
        change = "" if row.change_pct is None else f"{row.change_pct:+.1f} %"
        lines.append(f"{row.row:>3}  {row.category.value:<8}  {change:>8}".rstrip())
    lines.append(f"objective response: {_rate(result.objective_response)}")
    lines.append(f"disease control:    {_rate(result.disease_control)}")
    return "\n".join(lines)


def _rate(rate: Proportion | None) -> str:
    if rate is None:
        return "no row is evaluable"
    low, high = 100 * rate.lower, 100 * rate.upper
    return f"{rate.successes} of {rate.n}, {100 * rate.estimate:.1f} % (95 % limits {low:.1f} to {high:.1f})"
