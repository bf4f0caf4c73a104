"""``hepatocast evaluate --table`` and ``--public``: the survival model on tables, beside others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from inference.evaluation.tables.protocol import Table

OURS = "protocol"
"""Name of the protocol's survival model in tables."""


@dataclass(frozen=True, slots=True)
class TableRequest:
    """What is compared.

    Attributes
    ----------
    file : Path or None
        CSV file of a site, with the columns `time` and `event`; `left_out` are no covariates.
    public : tuple of str
        Names of public tables.
    hcc_tace_seg : Path or None
        Clinical table of HCC-TACE-Seg.
    against : tuple of str
        Other models.
    seeds : int or None
        Divisions into folds; None: as the protocol says for a table of that size.
    """

    file: Path | None
    time: str | None
    event: str | None
    left_out: tuple[str, ...]
    public: tuple[str, ...]
    hcc_tace_seg: Path | None
    against: tuple[str, ...]
    seeds: int | None


def public_names(wanted: bool, only: Sequence[str]) -> tuple[str, ...]:
    """Return the public tables that were asked for: all, or those named."""
    from inference.evaluation.tables.public import PUBLIC

    strange = [name for name in only if name not in PUBLIC]
    if strange:
        raise typer.BadParameter(f"{strange[0]} is none of {', '.join(PUBLIC)}", param_hint="--only")
    return tuple(only) or (tuple(PUBLIC) if wanted else ())


def evaluate_tables(request: TableRequest, out: Path) -> None:
    """Compare models on tables, show the means and write ``tables.md`` and ``tables.json``."""
    from inference.evaluation.tables.comparators import COMPARATORS
    from inference.evaluation.tables.protocol import MEASURES, compare, seeds_for
    from inference.evaluation.tables.report import write_comparisons
    from inference.evaluation.tabular import survival_model
    from inference.models.protocols import within

    strange = [name for name in request.against if name not in COMPARATORS]
    if strange:
        raise typer.BadParameter(f"{strange[0]} is none of {', '.join(COMPARATORS)}", param_hint="--against")
    models = {OURS: survival_model, **{name: COMPARATORS[name] for name in request.against}}
    tables = _tables(request)
    found = []
    with progress_bar("evaluation", quiet=False) as progress:
        for number, table in enumerate(tables):
            part = within(progress, number / len(tables), (number + 1) / len(tables))
            seeds = seeds_for(len(table.time)) if request.seeds is None else tuple(range(request.seeds))
            found.append(compare(table, models, seeds, part))
            # Written after each table: a long comparison that is stopped loses only the last one.
            write_comparisons(out, found, OURS)
    for comparison in found:
        typer.echo(f"{comparison.table}: {comparison.patients} patients, {comparison.events} events")
        for name, scores in comparison.scores.items():
            told = ", ".join(f"{title} {scores.mean(m):.3f}" for m, title in MEASURES.items())
            typer.echo(f"  {name}: {told}")
    typer.echo(f"all figures are in {out}")


def _tables(request: TableRequest) -> list[Table]:
    from inference.evaluation.tables.files import hcc_tace_seg, read_table
    from inference.evaluation.tables.public import PUBLIC

    tables = [PUBLIC[name]() for name in request.public]
    if request.hcc_tace_seg is not None:
        tables.append(hcc_tace_seg(request.hcc_tace_seg))
    if request.file is not None:
        if request.time is None or request.event is None:
            raise typer.BadParameter("name the columns of time and event", param_hint="--time")
        tables.append(read_table(request.file, request.time, request.event, request.left_out))
    return tables
