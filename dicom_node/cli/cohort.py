"""``hepatocast cohort``: make a prepared cohort from a site's archive, and check one."""

from __future__ import annotations

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from dicom_node.settings import NodeSettings
    from inference.imaging.phase_evidence import PhaseReader
    from inference.models.protocols import Segmenter
    from inference.training.cohort_check import CohortSummary
    from inference.training.site_pseudonyms import Pseudonyms
    from inference.training.site_table import Problem

app = typer.Typer(no_args_is_help=True)

FAILED, REFUSED = 1, 3


class Outlines(StrEnum):
    """Whose outlines of liver and tumours are used."""

    IN_STUDY = "in-study"
    AUTOMATIC = "automatic"


@app.callback()
def cohort() -> None:
    """Cohorts that imaging models are trained on and measured with: make one of your archive, check one.

    You need the DICOM studies before and after treatment, in a folder of any arrangement, and a table
    that says when treatment began, and with which regimen.

    1. `hepatocast cohort template --out patients.csv` writes an example of the table and explains it;

    2. `hepatocast cohort prepare archive/ --table patients.csv --out cohort/ --salt FILE` reads, outlines,
    registers and measures the studies; see its report.md and registration.png;

    3. `hepatocast cohort check cohort/` says whether the cohort is whole, and what it holds;

    4. `hepatocast cohort split cohort/ --external "Hospital B"` divides it in another way;

    5. `hepatocast train generator cohort/ --out my_bundle/` learns from its training patients, and
    `hepatocast evaluate --model generator --bundle my_bundle/ --cohort cohort/ ...` measures on its test
    patients.
    """


@app.command("template")
def template(
    out: Annotated[Path | None, typer.Option(help="File to write; standard output if absent.")] = None,
) -> None:
    """Write an example of the table that `cohort prepare` reads; what its columns mean is printed.

    Example: hepatocast cohort template --out patients.csv
    """
    from inference.training.site_table import guide
    from inference.training.site_table import template as example

    if out is None:
        typer.echo(example(), nl=False)
    else:
        out.write_text(example(), encoding="utf-8")
    typer.echo(guide(), err=True, nl=False)


@app.command("prepare")
def prepare(
    archive: Annotated[Path, typer.Argument(help="Folder of DICOM studies, in any arrangement.")],
    table: Annotated[Path, typer.Option(help="CSV with a row for each study; see `cohort template`.")],
    out: Annotated[Path, typer.Option(help="Folder of the cohort; made if absent.")],
    salt: Annotated[
        Path,
        typer.Option(help="Secret of the site that pseudonyms are made with; made if absent. Keep it."),
    ],
    name: Annotated[str, typer.Option(help="Name of the cohort; goes into bundles trained on it.")] = "site",
    modality: Annotated[str, typer.Option(help="CT or MR; studies of the other one are left out.")] = "CT",
    segmentation: Annotated[
        Outlines,
        typer.Option(help="Whose outlines are used: those in the studies only, or else a program's too."),
    ] = Outlines.IN_STUDY,
    keys: Annotated[
        Path | None,
        typer.Option(help="CSV (key, patient_id, issuer) when the table has keys of its own for patients."),
    ] = None,
    laboratory: Annotated[
        Path | None,
        typer.Option(
            help="CSV of laboratory values over time: patient_id, issuer, date, variable (with its unit in "
            "brackets), value. Those up to the day of the baseline study are kept."
        ),
    ] = None,
    text_encoder: Annotated[
        str,
        typer.Option(
            help="Keep reports in the baseline studies as vectors of this encoder, such as 'hashed n-grams'; "
            "without it no report is read."
        ),
    ] = "",
    reports: Annotated[
        Path | None,
        typer.Option(
            help="CSV of reports and operation notes that are no DICOM objects: patient_id, issuer, date, "
            "file. Those up to the day of the baseline study are kept; needs --text-encoder."
        ),
    ] = None,
    minimum_patients: Annotated[
        int, typer.Option(min=4, help="Refuse to divide fewer patients than this.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the division into training and test.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each needs about 2 GB.")] = 1,
    config: Annotated[list[Path] | None, typer.Option(help="Settings over the packaged defaults.")] = None,
) -> None:
    """Make a cohort from a folder of DICOM studies and a table of dates and regimens.

    Baseline and follow-ups are read as a study is read for a forecast, with the liver and tumours of a
    segmentation object in each study. With --segmentation automatic the others are outlined by the site's
    own segmenters of the configuration, or else by the segmenter in force; studies whose outlines are
    doubtful, as all of the shipped segmenter are, are left out. Contrast phases are told by descriptions,
    times and images.

    Follow-ups are registered to the baseline; one whose registration is not good enough is left out.
    Volumes and response (RECIST 1.1, mRECIST) are measured on each study's own images. All problems of
    the table are listed at once, before any image is read.

    Angiographies (XA) in the baseline studies, reports and laboratory values become part of the cohort too,
    as vectors and numbers, for `hepatocast train survival`; what is not from before the treatment is left
    out.

    Patients get pseudonyms; the cohort and its report hold no identifier, date or UID. report.md says who
    was left out and why, registration.png shows every pair.

    Example: hepatocast cohort prepare archive/ --table patients.csv --out cohort/ --salt ~/hepatocast.salt
    """
    from dicom_node.settings import load_settings
    from inference.errors import TrainingDataError
    from inference.training.cohort_split import SplitSettings
    from inference.training.site_archive import read_keys
    from inference.training.site_cohort import SiteOrder, prepare_site_cohort
    from inference.training.site_evidence import EvidenceOrder
    from inference.training.site_patient import SiteSettings
    from inference.training.site_report import write_report
    from inference.training.site_table import TableRefused

    if modality not in ("CT", "MR"):
        raise typer.BadParameter("must be CT or MR", param_hint="--modality")
    if reports is not None and not text_encoder:
        raise typer.BadParameter("name the encoder of the reports", param_hint="--text-encoder")
    settings = SiteSettings.model_validate({"modality": modality, "registration": {"modality": modality}})
    site = load_settings(config or [])
    models = _Models(site)
    order = SiteOrder(
        archive=archive,
        table=table,
        out=out,
        name=name,
        pseudonyms=_pseudonyms(salt, out),
        keys=None if keys is None else read_keys(keys),
        regimen_ids=tuple(r.id for r in site.regimens),
        segmenter=models.segmenter(segmentation),
        reader=models.phase_reader(),
        workers=workers,
        evidence=EvidenceOrder(laboratory, reports, text_encoder),
    )
    splits = SplitSettings(minimum_patients=minimum_patients, seed=seed)
    try:
        with progress_bar("cohort", quiet=False) as report:
            result = prepare_site_cohort(order, settings, splits, report)
    except TableRefused as error:
        _show_problems(error.problems)
        raise typer.Exit(REFUSED) from error
    document = write_report(result, settings.limits.registration, out)
    if result.cohort is None:
        raise TrainingDataError(f"{result.refusal}; who was left out and why is in {out / 'report.md'}")
    typer.echo(
        f"{document['patients_in_cohort']} of {document['patients_in_table']} patients with "
        f"{document['follow_ups_in_cohort']} follow-ups are in {out}; report.md says who is not and why"
    )


class _Models:
    """The models in force at the site, which outline studies and tell their phases."""

    def __init__(self, settings: NodeSettings) -> None:
        from dicom_node.bundles.loading import models_of

        self._settings = settings
        self._folders = models_of(settings).folders

    def segmenter(self, outlines: Outlines) -> Segmenter:
        """Return who outlines liver and tumours; a segmentation object in the study always comes first."""
        from inference.bundle_store import BundleKind
        from inference.errors import TrainingDataError
        from inference.models.catalogue import load_model
        from inference.models.plugins.table import site_segmenters
        from inference.models.seg_in_study import SegInStudy
        from inference.models.segmenter_chain import SegmenterChain

        if outlines is Outlines.IN_STUDY:
            return SegInStudy()
        programs: list[Segmenter] = list(site_segmenters(self._settings.models))
        if BundleKind.SEGMENTER in self._folders:
            programs.append(load_model(self._folders[BundleKind.SEGMENTER], BundleKind.SEGMENTER))
        if not programs:
            raise TrainingDataError("no segmenter is installed; give every study a segmentation object")
        return SegmenterChain((SegInStudy(), *programs))

    def phase_reader(self) -> PhaseReader | None:
        """Return what tells contrast phases from images, where there is one."""
        from inference.bundle_store import BundleKind
        from inference.models.catalogue import load_model

        folder = self._folders.get(BundleKind.PHASE)
        return None if folder is None else load_model(folder, BundleKind.PHASE)


def _pseudonyms(salt: Path, out: Path) -> Pseudonyms:
    from inference.training.site_pseudonyms import make_salt, read_salt

    if salt.resolve().is_relative_to(out.resolve()):
        raise typer.BadParameter(
            "the salt must not lie in the cohort: whoever has both can undo the pseudonyms",
            param_hint="--salt",
        )
    if not salt.exists():
        make_salt(salt)
        typer.echo(f"a new salt is in {salt}; keep it, and keep it apart from the cohort", err=True)
    return read_salt(salt)


def _show_problems(problems: tuple[Problem, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("row", "column", "problem")
    for problem in problems:
        shown.add_row(str(problem.row) if problem.row else "-", problem.column, problem.reason)
    Console(stderr=True).print(shown)
    typer.echo(f"hepatocast: {len(problems)} problem(s) in the table; no image was read", err=True)


@app.command("split")
def split(
    folder: Annotated[Path, typer.Argument(help="Folder of a prepared cohort.")],
    external: Annotated[
        list[str] | None,
        typer.Option(help="Centre that no training sees, kept as an external set; several times."),
    ] = None,
    test_share: Annotated[float, typer.Option(min=0.05, max=0.95, help="Test patients, of all.")] = 0.3,
    validation_share: Annotated[
        float, typer.Option(min=0.05, max=0.95, help="Validation patients, of those that are not test.")
    ] = 0.15,
    minimum_patients: Annotated[
        int, typer.Option(min=4, help="Refuse to divide fewer patients than this.")
    ] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and patients give the same division.")] = 0,
) -> None:
    """Divide a cohort by patient into training, validation and test, alike in centre and regimen.

    Writes split.csv into the cohort, by which all that is trained and evaluated goes from then on. Centres
    named with --external are left out of training altogether; `hepatocast arms` measures on each of them.
    The digest of the cohort changes: what was trained under another division counts as trained on another
    cohort, since it may have seen the present test patients.

    Example: hepatocast cohort split cohort/ --external "Hospital B" --seed 1
    """
    from inference.training.cohort import Cohort
    from inference.training.cohort_split import SplitSettings, write_split

    settings = SplitSettings(
        test_share=test_share,
        validation_share=validation_share,
        minimum_patients=minimum_patients,
        seed=seed,
    )
    found = write_split(Cohort.open(folder), settings, frozenset(external or ()))
    for (centre, name), rows in found.patients.groupby(["centre", "split"]):
        typer.echo(f"{centre}, {name}: {len(rows)}")


@app.command("redraw")
def redraw(
    folder: Annotated[Path, typer.Argument(help="Folder of a cohort that `hepatocast simulate` made.")],
    draws: Annotated[int, typer.Option(min=2, help="Draws of each follow-up; few flatter a model.")] = 24,
    workers: Annotated[int, typer.Option(min=1, help="Processes; results are the same.")] = 1,
) -> None:
    """Draw the follow-ups of a simulated cohort's test patients again: the oracle of `evaluate`.

    The patient and the tumours stay, and luck is drawn anew; the spread is what no forecaster can know.
    `evaluate` then says which share of the gap between the climatology and this oracle a generator closes.
    Takes some seconds for each test patient.

    Example: hepatocast cohort redraw shifted/ --workers 4
    """
    from inference.evaluation.redraws import write_redraws

    with progress_bar("redrawing", quiet=False) as report:
        path = write_redraws(folder, draws, workers, report)
    typer.echo(f"the follow-ups that were drawn again are in {path}")


@app.command("check")
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of a prepared cohort.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Check a prepared cohort (digest, tables, shapes, ranges) and say what it holds.

    Ends with exit code 1 when something is wrong.

    Example: hepatocast cohort check cohort/
    """
    from inference.training.cohort_check import check_cohort

    with progress_bar("checking", quiet=as_json) as report:
        summary = check_cohort(folder, report)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(summary), indent=1))
    else:
        _show_summary(summary)
    if summary.findings:
        raise typer.Exit(FAILED)


def _show_summary(summary: CohortSummary) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for title, value in (
        ("cohort", f"{summary.name} ({summary.origin}, {summary.modality}: {', '.join(summary.phases)})"),
        ("patients", f"{summary.patients}: {_listed(summary.by_split)}"),
        ("follow-ups with images", str(summary.follow_ups)),
        ("centres", _listed(summary.by_centre)),
        ("regimens", _listed(summary.by_regimen)),
        ("RECIST 1.1", _listed(summary.recist11)),
        ("deaths, progressions", f"{summary.deaths}, {summary.progressions}"),
    ):
        table.add_row(title, value)
    console = Console()
    console.print(table)
    for finding in summary.findings:
        console.print(f"[red]wrong[/red] {finding.where}: {finding.what}", highlight=False)
    console.print("nothing is wrong" if not summary.findings else f"{len(summary.findings)} finding(s)")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
