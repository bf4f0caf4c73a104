"""``hepatocast assess samplesize``: how many patients the development of a model needs."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.sheets import Cell, Sheet, check_out, show_or_write

if TYPE_CHECKING:
    from inference.evaluation.survival.sample_size import BinarySize, SurvivalSize

_ANY, _BINARY, _SURVIVAL = ("parameters", "r2"), ("auc", "prevalence"), ("rate", "follow_up", "time")
COLUMNS = (*_ANY, *_BINARY, *_SURVIVAL)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a model is planned to be; `place` is where it stands, None is not given."""

    place: str
    values: Mapping[str, float]

    def has(self, *names: str) -> bool:
        return all(name in self.values for name in names)


def samplesize(
    table: Annotated[
        Path | None, typer.Argument(metavar="FILE.csv", help="One planned model in each row.")
    ] = None,
    parameters: Annotated[int | None, typer.Option(help="Candidate coefficients of the model.")] = None,
    r2: Annotated[float | None, typer.Option(help="Cox and Snell's R2 that is expected of it.")] = None,
    auc: Annotated[float | None, typer.Option(help="AUC that is expected, instead of R2 (binary).")] = None,
    prevalence: Annotated[float | None, typer.Option(help="Share with the outcome (binary).")] = None,
    rate: Annotated[float | None, typer.Option(help="Events per patient and year (survival).")] = None,
    follow_up: Annotated[float | None, typer.Option(help="Mean follow-up in years (survival).")] = None,
    time: Annotated[float | None, typer.Option(help="Years that are predicted (survival).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write to FILE.csv or FILE.json.")] = None,
) -> None:
    """Patients that the development of a prediction model needs, by the criteria of Riley and others.

    A model of a yes or no needs --prevalence and --r2 or --auc; a survival model needs --r2, --rate,
    --follow-up and --time. Rows of a table have the same names as columns: parameters, r2, auc,
    prevalence, rate, follow_up, time. Shrinkage of .9 and optimism of .05 each ask for a number of
    patients; the largest counts. The note has the overall risk at the time, with its limits at that size.

    Example: hepatocast assess samplesize --parameters 25 --r2 0.051 --rate 0.065 --follow-up 2.07 --time 2
    """
    check_out(out)
    given = dict(zip(COLUMNS, (parameters, r2, auc, prevalence, rate, follow_up, time), strict=True))
    options = {name: float(value) for name, value in given.items() if value is not None}
    if table is not None and options:
        raise typer.BadParameter("give a table or options, not both")
    plans = _read(table) if table is not None else (_Plan("options", options),)
    columns = (
        "row",
        "outcome",
        "patients",
        "events",
        "events per parameter",
        "shrinkage",
        "optimism",
        "note",
    )
    sheet = Sheet(columns, tuple(_cells(plan) for plan in plans))
    show_or_write(sheet, sheet, out)


def _read(table: Path) -> tuple[_Plan, ...]:
    from inference.errors import ClinicalError

    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if unknown := [name for name in reader.fieldnames or () if name not in COLUMNS]:
                raise ClinicalError(
                    f"The table has a column {unknown[0]!r}; it may have {', '.join(COLUMNS)}."
                )
            plans = tuple(_plan(number, row) for number, row in enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClinicalError(f"The table cannot be read as UTF-8 CSV: {type(error).__name__}.") from error
    if not plans:
        raise ClinicalError("The table has no rows below its header.")
    return plans


def _plan(number: int, row: Mapping[str, str | None]) -> _Plan:
    from inference.errors import ClinicalError

    values = {}
    for name in COLUMNS:
        text = (row.get(name) or "").strip()
        if not text:
            continue
        try:
            values[name] = float(text)
        except ValueError:
            raise ClinicalError(f"row {number}: {name} is not a number.") from None
    return _Plan(f"row {number}", values)


def _cells(plan: _Plan) -> tuple[Cell, ...]:
    from inference.errors import ClinicalError

    if not plan.has("parameters") or plan.values["parameters"] != int(plan.values["parameters"]):
        raise ClinicalError(f"{plan.place}: give a whole number of parameters.")
    try:
        if plan.has("prevalence"):
            return _binary(plan)
        if plan.has("r2", *_SURVIVAL):
            return _survival(plan)
    except ValueError as error:
        raise ClinicalError(f"{plan.place}: {error}.") from error
    raise ClinicalError(f"{plan.place}: give prevalence and r2 or auc, or r2, rate, follow_up and time.")


def _binary(plan: _Plan) -> tuple[Cell, ...]:
    from inference.errors import ClinicalError
    from inference.evaluation.survival.sample_size import binary_sample_size, r2_from_auc

    share = plan.values["prevalence"]
    if plan.has("r2") == plan.has("auc"):
        raise ClinicalError(f"{plan.place}: give r2 or auc, one of them.")
    r2 = plan.values["r2"] if plan.has("r2") else r2_from_auc(plan.values["auc"], share)
    size: BinarySize = binary_sample_size(r2, int(plan.values["parameters"]), share)
    note = f"R2 {r2:.4f}; {size.overall_risk} for the overall risk"
    events = size.patients * share
    cells = (size.patients, events, size.events_per_parameter, size.shrinkage, size.optimism)
    return plan.place, "binary", *cells, note


def _survival(plan: _Plan) -> tuple[Cell, ...]:
    from inference.evaluation.survival.sample_size import survival_sample_size

    named = {name: plan.values[name] for name in _SURVIVAL}
    size: SurvivalSize = survival_sample_size(plan.values["r2"], int(plan.values["parameters"]), **named)
    risk = size.incidence
    note = f"risk {risk.value:.3f} ({risk.lower:.3f}-{risk.upper:.3f})"
    cells = (size.patients, size.events, size.events_per_parameter, size.shrinkage, size.optimism)
    return plan.place, "survival", *cells, note
