"""``hepatocast batch``: archived studies, re-processed behind the live work."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_node.batch.ways import FindBy, RetrieveBy
from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from dicom_node.batch.candidates import Filters, Found
    from dicom_node.batch.ledger import BatchRow
    from dicom_node.batch.opening import Batches
    from dicom_node.batch.planning import Draft
    from dicom_node.batch.progress import Progress
    from dicom_node.batch.retrieval import Way

SHOWN_LINES = 20
SHOWN_STUDIES = 20

app = typer.Typer(
    no_args_is_help=True,
    help="""Archived studies: find them, retrieve them at a set pace, and follow them to their results.

First `batch plan` asks the archive and shows what the routing rules would do with each study; nothing is
retrieved yet. Then `batch run` works the plan through, behind the live work of the node, which must be
running (`hepatocast serve`). It may be stopped, killed and started again at any time: no study is lost or
done twice. Pace, nightly window and disk limit are in the section `batch:` of the configuration.

A study is PLANNED, RETRIEVING, RECEIVED and DONE in turn (DONE: its results are delivered); or it ends
REFUSED, FAILED or SKIPPED, each with its reason; HELD waits for a person (`hepatocast jobs review`,
`hepatocast jobs list --state HELD`).
""",
)

ConfigOption = Annotated[
    list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the batch.")]


class Format(StrEnum):
    """Formats of a report."""

    CSV = "csv"
    HTML = "html"


def _open(config: list[Path] | None) -> Batches:
    from dicom_node.batch.opening import Batches
    from dicom_node.clock import system_clock
    from dicom_node.settings import load_settings

    return Batches.open(load_settings(config or []), system_clock)


# ------------------------------------------------------------------ plan


@app.command()
def plan(
    name: NameArgument,
    peer: Annotated[str, typer.Option(help="Name of the archive under peers:.")],
    config: ConfigOption = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="Studies with a series of it, such as CT; several times.")
    ] = None,
    first_date: Annotated[
        str, typer.Option("--from", metavar="YYYYMMDD", help="Study Date from this day on.")
    ] = "",
    last_date: Annotated[
        str, typer.Option("--to", metavar="YYYYMMDD", help="Study Date up to this day.")
    ] = "",
    description: Annotated[
        str, typer.Option(help="Study Description; * and ? are wild cards, such as 'LIVER*'.")
    ] = "",
    body_part: Annotated[
        str, typer.Option(help="Body Part Examined of a series; studies that do not tell it are kept.")
    ] = "",
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            exists=True,
            dir_okay=False,
            help="File with a Study Instance UID or an accession number in the first column of each line.",
        ),
    ] = None,
    find_by: Annotated[FindBy, typer.Option(help="How the archive is asked.")] = FindBy.C_FIND,
    retrieve_by: Annotated[
        RetrieveBy | None,
        typer.Option(help="How studies come; WADO-RS where the peer has a dicomweb_url, else C-GET."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and do not write it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find archived studies, show what the routing rules would do with them, and write a plan.

    Nothing is retrieved. Some facts that rules may ask for are in the images only: where they decide, the
    table says that it cannot be known before retrieval, and the study is retrieved to be seen. Studies
    that the rules would ignore, and those already processed with the models in force, are SKIPPED.

    Example: hepatocast batch plan tace2019 --peer pacs --modality CT --from 20190101 --to 20191231
    --description 'LIVER*' --config site.yaml

    Example: hepatocast batch plan trial7 --peer pacs --list accession-numbers.csv --config site.yaml
    """
    from dicom_node.batch.candidates import Filters
    from dicom_node.batch.ledger import NewBatch
    from dicom_node.batch.opening import checked_way, preferred_retrieval

    filters = Filters(tuple(m.upper() for m in modality or ()), first_date, last_date, description, body_part)
    if list_file is None and filters == Filters():
        raise typer.BadParameter("say which studies: --list, or --modality, --from, --to, --description ...")
    batches = _open(config)
    archive = batches.settings.peer(peer)
    retrieval = preferred_retrieval(archive) if retrieve_by is None else retrieve_by
    way = checked_way(archive, find_by, retrieval)
    with progress_bar("plan", quiet=as_json) as report:
        found = _found(batches, way, list_file, filters, report)
    draft = batches.planner(archive).draft(found)
    if not dry_run:
        batches.ledger.plan(NewBatch(name, peer, way.find_by, way.retrieve_by), draft.studies)
    if as_json:
        typer.echo(json.dumps(_plan_document(name, draft, written=not dry_run), indent=1))
    else:
        _print_plan(name, draft, written=not dry_run)


def _found(batches: Batches, way: Way, list_file: Path | None, filters: Filters, report: Any) -> Found:
    from dicom_node.batch.archive import asking
    from dicom_node.batch.candidates import find_by_filters, find_listed, read_list

    entries = () if list_file is None else read_list(list_file.read_text(encoding="utf-8"))
    with asking(way.find_by, way.peer, batches.settings.listener.ae_title) as archive:
        if list_file is None:
            return find_by_filters(archive, filters, report)
        return find_listed(archive, entries, filters, report)


def _plan_document(name: str, draft: Draft, *, written: bool) -> dict[str, Any]:
    return {
        "batch": name,
        "written": written,
        "studies": len(draft.studies),
        "retrieved": draft.retrieved,
        "outside_filters": draft.outside,
        "lines_without_study": list(draft.lines_without_study),
        "outlooks": [{"studies": o.studies, "retrieved": o.retrieved, "why": o.why} for o in draft.outlooks],
    }


def _print_plan(name: str, draft: Draft, *, written: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("Studies", "Retrieved", "What the routing rules would do, or why it is skipped", box=None)
    table.columns[0].justify = "right"
    for outlook in draft.outlooks:
        table.add_row(str(outlook.studies), "yes" if outlook.retrieved else "no", escape(outlook.why))
    console.print(table)
    if draft.outside:
        console.print(f"{draft.outside} more studies are outside the filters")
    if lines := draft.lines_without_study:
        shown = ", ".join(map(str, lines[:SHOWN_LINES])) + (" ..." if len(lines) > SHOWN_LINES else "")
        console.print(f"{len(lines)} lines of the list have no study in the archive: {shown}")
    if written:
        console.print(f"\n{draft.retrieved} studies are planned; begin with `hepatocast batch run {name}`")
    else:
        console.print(f"\n{draft.retrieved} studies would be retrieved; nothing was written")


# ------------------------------------------------------------------ run, pause, resume


@app.command()
def run(
    name: NameArgument,
    config: ConfigOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Plan the studies again that FAILED before.")
    ] = False,
) -> None:
    """Work a batch through: retrieve its studies and follow them until each has ended.

    It keeps to the pace, the nightly window and the disk limit of the configuration, and begins no
    retrieval while live studies wait. Stop it with Ctrl-C: the study that comes just then is taken up
    again by the next run. `hepatocast batch pause` from another terminal halts it without ending it.

    Example: hepatocast batch run tace2019 --config site.yaml
    """
    from dicom_node.signals import stop_on_signals

    batches = _open(config)
    batch = batches.ledger.batch(name)
    stop = stop_on_signals()
    runner = batches.runner(batch, stop)
    if retry_failed:
        typer.echo(f"{batches.ledger.retry_failed(batch.id)} failed studies are planned again", err=True)
    with progress_bar(f"batch {name}", quiet=False) as bar:
        progress = runner.run(stop, lambda p, activity: bar(_progress_line(p, activity), p.share))
    typer.echo(_counts_text(progress))


def _progress_line(progress: Progress, activity: str) -> str:
    parts = [f"{progress.ended} of {progress.total} studies", activity]
    if progress.ends_at is not None:
        parts.append(f"ends about {_when(progress.ends_at)}")
    return ", ".join(part for part in parts if part)


def _counts_text(progress: Progress) -> str:
    return ", ".join(f"{n} {state}" for state, n in sorted(progress.counts.items())) or "no studies"


@app.command()
def pause(name: NameArgument, config: ConfigOption = None) -> None:
    """Let a batch begin no more retrievals, here or in the terminal where it runs.

    What is being retrieved and processed is finished.

    Example: hepatocast batch pause tace2019 --config site.yaml
    """
    _open(config).ledger.pause(name)
    typer.echo(f"batch {name} is paused; `hepatocast batch resume {name}` lets it go on")


@app.command()
def resume(name: NameArgument, config: ConfigOption = None) -> None:
    """Let a paused batch go on; where its run has ended, start it again with `batch run`.

    Example: hepatocast batch resume tace2019 --config site.yaml
    """
    batches = _open(config)
    batch = batches.ledger.resume(name)
    running = batch.runner and batch.runner_until > batches.clock()
    typer.echo(f"batch {name} goes on" if running else f"start it with `hepatocast batch run {name}`")


# ------------------------------------------------------------------ status, report


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(help="Name of the batch; all batches if absent.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a batch is, how fast it goes, when it will be through, and what failed and why.

    The forecast is the median pace of the last studies, applied to the hours in which the nightly window
    is open; the span is that of the slower and the faster quarter.

    Example: hepatocast batch status tace2019 --config site.yaml
    """
    batches = _open(config)
    chosen = batches.ledger.batches() if name is None else (batches.ledger.batch(name),)
    documents = [_status_document(batches, batch) for batch in chosen]
    if as_json:
        typer.echo(json.dumps(documents if name is None else documents[0], indent=1))
        return
    if not documents:
        typer.echo("no batches; write one with `hepatocast batch plan`")
    for document in documents:
        _print_status(document)


def _status_document(batches: Batches, batch: BatchRow) -> dict[str, Any]:
    from dicom_node.batch.progress import progress_of
    from dicom_node.batch.states import BatchStudy

    now = batches.clock()
    progress = progress_of(batches.ledger, batch, batches.settings.batch, now)
    shown = batches.ledger.studies(batch.id, (BatchStudy.FAILED, BatchStudy.REFUSED, BatchStudy.HELD))
    waiting = [s for s in batches.ledger.studies(batch.id, (BatchStudy.PLANNED,)) if s.reason]
    running = bool(batch.runner) and batch.runner_until > now
    return {
        "batch": batch.name,
        "state": _state(batch, progress, running=running),
        "activity": batch.activity if running or batch.paused else "",
        "total": progress.total,
        "ended": progress.ended,
        "left": progress.left,
        "share": progress.share,
        "counts": {str(state): n for state, n in progress.counts.items()},
        "studies_per_hour": None if progress.pace is None else progress.pace.studies_per_hour,
        "ends_at": _iso(progress.ends_at) if running and not batch.paused else None,
        "ends_between": [_iso(at) for at in progress.ends_between or ()] if running else [],
        "problems": [
            {
                "study_instance_uid": s.study_instance_uid,
                "state": str(s.state),
                "attempts": s.attempts,
                "reason": s.reason,
            }
            for s in (*shown, *waiting)
        ],
    }


def _state(batch: BatchRow, progress: Progress, *, running: bool) -> str:
    if not progress.left:
        return "ended"
    if batch.paused:
        return "paused"
    return "running" if running else "not running"


def _print_status(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    activity = f": {escape(document['activity'])}" if document["activity"] else ""
    console.print(f"[bold]{document['batch']}[/bold] is {document['state']}{activity}")
    counts = ", ".join(f"{n} {state}" for state, n in sorted(document["counts"].items()))
    console.print(f"{document['ended']} of {document['total']} studies have ended ({counts})")
    if document["studies_per_hour"] is not None:
        console.print(f"{document['studies_per_hour']:.1f} studies per hour")
    if document["ends_at"]:
        span = " to ".join(_when_iso(at) for at in document["ends_between"])
        console.print(f"ends about {_when_iso(document['ends_at'])}" + (f" ({span})" if span else ""))
    elif document["left"]:
        console.print("when it ends cannot be said yet")
    problems = document["problems"]
    if problems:
        table = Table("Study", "State", "Attempts", "Reason", box=None, header_style="bold")
        for p in problems[:SHOWN_STUDIES]:
            uid, reason = f"…{p['study_instance_uid'][-16:]}", escape(p["reason"])
            table.add_row(uid, p["state"], str(p["attempts"]), reason)
        console.print(table)
    if len(problems) > SHOWN_STUDIES:
        console.print(f"and {len(problems) - SHOWN_STUDIES} more; `hepatocast batch report` has all")


@app.command()
def report(
    name: NameArgument,
    out: Annotated[Path, typer.Option(help="File to write, such as tace2019.html or tace2019.csv.")],
    config: ConfigOption = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="csv or html; from the file's name if absent.")
    ] = None,
) -> None:
    """Write what became of every study: outcome, reason, times, and the counts.

    A study is named by its Study Instance UID; there are no names or IDs of patients in it.

    Example: hepatocast batch report tace2019 --out tace2019.html --config site.yaml
    """
    from dicom_node.batch.report import report_of, to_csv, to_html

    suffix = out.suffix.lstrip(".").lower()
    if format_ is None and suffix not in tuple(Format):
        raise typer.BadParameter("name the file .csv or .html, or give --format")
    batches = _open(config)
    content = report_of(batches.ledger, batches.ledger.batch(name))
    write = {Format.CSV: to_csv, Format.HTML: to_html}[format_ or Format(suffix)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(write(content), encoding="utf-8", newline="")
    typer.echo(f"{len(content.lines)} studies are in {out}")


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _when_iso(text: str) -> str:
    return _when(datetime.fromisoformat(text).timestamp())
