"""``hepatocast reader-study``: let readers judge virtual follow-ups, blinded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from inference.evaluation.reading_set import ReadingItem
    from inference.models.protocols import Progress

app = typer.Typer(no_args_is_help=True)


@app.callback()
def reader_study() -> None:
    """Let readers judge virtual follow-ups, blinded.

    1. `hepatocast reader-study export --cohort cohort/ --bundle my_bundle/ --out reading/` mixes real and
    virtual follow-ups, writes one picture of each under a random code, a sheet for each reader, and a key
    that stays with you;

    2. each reader gets the folder and fills in a sheet of their own, alone: 1 (not plausible) to 5;

    3. `hepatocast reader-study analyse reading/reader_*.csv --key reading_key.csv --out figures/` says how
    many virtual follow-ups were found plausible (4 or 5) beside the real ones, how well the readers agree,
    and whether they can tell which is which.
    """


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder that the readers get; must be empty or absent.")],
    key: Annotated[
        Path | None,
        typer.Option(help="Which picture is virtual; kept from the readers. OUT_key.csv if absent."),
    ] = None,
    cohort: Annotated[Path | None, typer.Option(help="Prepared cohort to take patients from.")] = None,
    bundle: Annotated[str, typer.Option(help="Generator that draws the virtual follow-ups.")] = "mechanistic",
    studies: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a cohort: CSV with baseline, follow_up (DICOM folders of one series), origin "
            "(real or virtual), regimen, months and, optionally, z_mm."
        ),
    ] = None,
    items: Annotated[int, typer.Option(min=4, help="Pictures, half of them virtual.")] = 60,
    readers: Annotated[int, typer.Option(min=1, help="Sheets to write.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of choice, codes and order.")] = 0,
    config: Annotated[list[Path] | None, typer.Option(help="Settings over the packaged defaults.")] = None,
) -> None:
    """Write a reading set: real and virtual follow-ups mixed, coded at random, one sheet a reader.

    Readers score each picture from 1 (not plausible) to 5. Give them the folder, never the key.

    Example: hepatocast reader-study export --cohort cohort/ --bundle my_bundle/ --out reading/
    """
    from inference.evaluation.reading_set import export_reading_set
    from inference.randomness import RandomStreams

    if (cohort is None) == (studies is None):
        raise typer.BadParameter("give either --cohort or --studies")
    with progress_bar("reading set", quiet=False) as progress:
        if studies is not None:
            found = _of_studies(studies, progress)
        else:
            assert cohort is not None
            found = _of_cohort(cohort, bundle, items, seed, config or [], progress)
    kept = key if key is not None else out.with_name(f"{out.name}_key.csv")
    sheets = export_reading_set(found, out, kept, RandomStreams(seed), readers)
    typer.echo(f"{len(found)} pictures and {len(sheets)} sheets are in {out}")
    typer.echo(f"the key is {kept}; keep it from the readers")


def _of_studies(studies: Path, progress: Progress) -> tuple[ReadingItem, ...]:
    from inference.evaluation.reading_sources import items_of_studies

    if not studies.is_file():
        raise typer.BadParameter("there is no such file", param_hint="--studies")
    return items_of_studies(studies, progress)


def _of_cohort(
    folder: Path, bundle: str, items: int, seed: int, config: list[Path], progress: Progress
) -> tuple[ReadingItem, ...]:
    from dicom_node.settings import load_settings
    from inference.evaluation.openers import open_forecasters
    from inference.evaluation.reading_sources import items_of_cohort
    from inference.randomness import RandomStreams
    from inference.training.cohort import Cohort, Split

    cohort = Cohort.open(folder)
    regimens = {r.id: r for r in load_settings(config).regimens}
    forecasters = open_forecasters(bundle, cohort.info, regimens)[1]
    return items_of_cohort(cohort, forecasters[0], Split.TEST, items, RandomStreams(seed), progress)


@app.command()
def analyse(
    sheets: Annotated[list[Path], typer.Argument(help="The sheets of all readers, filled in.")],
    key: Annotated[Path, typer.Option(help="The key that was written with them.")],
    out: Annotated[Path, typer.Option(help="Folder for reader_study.md and reader_study.json.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Join the sheets with the key: shares of 4 or 5, agreement, and whether readers can tell.

    A sheet with a missing, doubled or impossible score is refused with its rows.

    Example: hepatocast reader-study analyse reader_1.csv reader_2.csv reader_3.csv --key reading_key.csv
    --out figures/
    """
    from inference.evaluation.reading_sheets import analyse as figures_of
    from inference.evaluation.reading_sheets import read_sheets, write_reading_figures
    from inference.randomness import RandomStreams

    figures = figures_of(read_sheets(sheets, key), RandomStreams(seed))
    text, _ = write_reading_figures(out, figures)
    typer.echo(text.read_text(encoding="utf-8"))
