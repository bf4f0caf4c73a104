"""``hepatocast run``: forecast one study from a folder, without a network."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.terminal import progress_bar
from inference.settings import Doubtful

if TYPE_CHECKING:
    from dicom_node.settings import NodeSettings


def run(
    dicom_dir: Annotated[
        Path, typer.Argument(help="Folder of one study: the CT or MR series and a segmentation of them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the objects and result.json; made if absent.")],
    clinical: Annotated[
        Path | None,
        typer.Option(
            help="JSON or CSV of clinical values, keyed by study or patient; asked before the sources of the "
            "configuration."
        ),
    ] = None,
    regimen: Annotated[
        list[str] | None, typer.Option(help="Regimen of regimens.yaml; may be given several times.")
    ] = None,
    month: Annotated[
        list[float] | None, typer.Option(help="Months after the start of treatment; several times.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Time written into the objects, such as 2026-01-31T12:00:00+00:00; now if absent."),
    ] = None,
    config: Annotated[list[Path] | None, typer.Option(help="Settings over the packaged defaults.")] = None,
    doubtful: Annotated[
        Doubtful,
        typer.Option(help="Doubtful outlines of the node's own: hold (for a person), or accept as they are."),
    ] = Doubtful.HOLD,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json and nothing else.")] = False,
) -> None:
    """Forecast one study from a folder; writes OUT/<kind>/*.dcm and OUT/result.json.

    The same folder, settings, seed and --at give the same bytes. The models are those in force in the
    data folder of the configuration (`hepatocast models list`).

    Outlines that the node drew itself and that are doubtful are not forecast: they are written to
    OUT/proposal, to be corrected and put into the folder; or run again with --doubtful accept.

    Example: hepatocast run study/ --out forecast/ --regimen tace --regimen haic --month 3 --month 6
    """
    from dicom_node.bundles.loading import load_bundles, models_of
    from dicom_node.forecast import Order, forecast, write_proposal
    from dicom_node.settings import load_settings
    from inference.clinical.sources.table import study_record
    from inference.errors import ReviewNeeded

    settings: NodeSettings = load_settings(config or [])
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    files = tuple(sorted(p for p in dicom_dir.rglob("*") if p.is_file()))
    order = Order(
        files=files,
        job_time=_job_time(at),
        pipeline=settings.pipeline(regimen or (), month or ()).model_copy(update={"doubtful": doubtful}),
        clinical=study_record(settings.clinical.after_file(clinical or settings.clinical_file), files),
    )
    bundles = load_bundles(models_of(settings), settings)
    try:
        with progress_bar("forecast", quiet=as_json) as report:
            done = forecast(order, settings, out, report, bundles)
    except ReviewNeeded as needed:
        write_proposal(needed, order, settings, out)
        needed.add_note(
            f"The outlines are in {out / 'proposal'}: correct them and put them into the folder of the "
            "study, or run again with --doubtful accept."
        )
        raise
    if as_json:
        typer.echo(json.dumps(done.document, indent=1))
    else:
        typer.echo(f"{len(done.objects)} objects and result.json are in {out}")


def _job_time(at: str | None) -> datetime:
    if at is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        time = datetime.fromisoformat(at)
    except ValueError as error:
        raise typer.BadParameter(f"--at {at!r} is not an ISO 8601 time") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
