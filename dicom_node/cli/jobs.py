"""``hepatocast jobs``: what became of each study, and why; retry and cancel."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dicom_node.jobs.engine import Engine
    from dicom_node.jobs.ledger import Ledger, RevisionRow
    from dicom_node.jobs.reviews import Reviews

WATCH_EVERY_S = 1.0

app = typer.Typer(
    no_args_is_help=True,
    help="""Studies and their jobs: states, reasons, progress, retry and cancel.

A study revision is RECEIVING, COMPLETE, QUEUED, RUNNING, DONE, DELIVERING and DELIVERED in turn; or it
ends as IGNORED, HELD, REFUSED, FAILED, CANCELLED or SUPERSEDED, each with its reason. One whose outlines
are doubtful waits in REVIEW: correct the proposal in the PACS and send it, or release, or reject.
""",
)

ConfigOption = Annotated[
    list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RevisionArgument = Annotated[int, typer.Argument(help="Number in the first column of `jobs list`.")]


def _open(config: list[Path] | None) -> tuple[Ledger, Engine]:
    from dicom_node.clock import system_clock
    from dicom_node.database import node_database
    from dicom_node.jobs.ledger import Ledger
    from dicom_node.jobs.opening import open_engine
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    database = node_database(settings)
    engine = open_engine(settings.jobs, database, system_clock, "command line")
    return Ledger(database, system_clock), engine


def _when(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _summary(row: RevisionRow, ledger: Ledger, engine: Engine) -> dict[str, Any]:
    objects: dict[str, dict[str, int]] = {}
    for (peer, state), count in ledger.object_counts(row.id).items():
        objects.setdefault(peer, {})[state] = count
    jobs = engine.status([row.job_key])
    return {
        "revision": row.id,
        "study_instance_uid": row.study_instance_uid,
        "number": row.number,
        "state": str(row.state),
        "reason": row.reason,
        "rule": row.rule,
        "changed_at": row.changed_at,
        "job_time": row.job_time,
        "attempts": jobs[0].attempts if jobs else 0,
        "progress": jobs[0].progress if jobs else None,
        "doing": jobs[0].progress_text if jobs else "",
        "objects": objects,
    }


def _objects_text(objects: dict[str, dict[str, int]]) -> str:
    parts = []
    for peer, states in sorted(objects.items()):
        total = sum(states.values())
        parts.append(f"{states.get('VERIFIED', 0)}/{total} at {peer}")
    return ", ".join(parts)


def _table(summaries: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("#", "Study", "State", "Since", "Delivered", "Progress", "Reason"):
        table.add_column(title, overflow="fold", no_wrap=title in ("#", "State", "Since"))
    for s in summaries:
        running = s["state"] == "RUNNING" and s["progress"] is not None
        progress = f"{100 * s['progress']:.0f} % {s['doing']}" if running else ""
        uid = f"…{s['study_instance_uid'][-16:]} r{s['number']}"
        since, delivered = _when(s["changed_at"]), _objects_text(s["objects"])
        table.add_row(str(s["revision"]), uid, s["state"], since, delivered, progress, s["reason"])
    return table


@app.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option(help="Only these states; several times.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List study revisions with their states and reasons.

    Example: hepatocast jobs list --state HELD --state FAILED
    """
    from rich.console import Console

    ledger, engine = _open(config)
    summaries = [_summary(row, ledger, engine) for row in ledger.revisions(_states(state))]
    if as_json:
        typer.echo(json.dumps(summaries, indent=1))
    elif summaries:
        Console().print(_table(summaries))
    else:
        typer.echo("no studies")


def _states(names: list[str] | None) -> list[Any]:
    from dicom_node.jobs.states import Revision

    known = [str(s) for s in Revision]
    for name in names or []:
        if name.upper() not in known:
            raise typer.BadParameter(f"{name!r} is no state; states are {', '.join(known)}")
    return [Revision(name.upper()) for name in names or []]


@app.command()
def show(revision: RevisionArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one revision: its state and reason, its objects, and every change of state."""
    from rich.console import Console
    from rich.table import Table

    from dicom_node.bundles.record import recorded_models

    ledger, engine = _open(config)
    row = ledger.revision(revision)
    summary = _summary(row, ledger, engine)
    history = [dict(h) for h in ledger.history(revision)]
    models = recorded_models(ledger.database, revision)
    bundles = dict(models.bundles) if models else {}
    if as_json:
        document = {**summary, "plan": json.loads(row.plan), "bundles": bundles, "history": history}
        typer.echo(json.dumps(document, indent=1))
        return
    console = Console()
    console.print(f"[bold]{row.state}[/bold] {row.reason}")
    console.print(f"study {row.study_instance_uid}, revision {row.number}, rule {row.rule or '-'}")
    if bundles:
        console.print("bundles " + ", ".join(f"{part} {sha[:12]}" for part, sha in sorted(bundles.items())))
    if summary["objects"]:
        console.print(f"objects {json.dumps(summary['objects'])}")
    table = Table(box=None, header_style="bold")
    for title in ("When", "State", "Event", "Detail"):
        table.add_column(title, overflow="fold")
    for change in history:
        table.add_row(_when(change["at"]), change["state_after"], change["event"], change["detail"])
    console.print(table)


def _told(ledger: Ledger, action: str, revision: int, reason: str = "") -> None:
    """Tell the audit trail who did what."""
    import getpass

    from dicom_node.audit.events import AuditEvents, PersonAction

    study = ledger.revision(revision).study_instance_uid
    done = PersonAction(getpass.getuser(), action, revision, study, reason)
    AuditEvents(ledger.database, ledger.clock).record(done.event())


@app.command()
def retry(revision: RevisionArgument, config: ConfigOption = None) -> None:
    """Try a revision again that was held, ignored, refused, cancelled or failed."""
    ledger, _ = _open(config)
    state = ledger.retry(revision)
    _told(ledger, "retry", revision)
    typer.echo(f"revision {revision} is {state}")


@app.command()
def cancel(revision: RevisionArgument, config: ConfigOption = None) -> None:
    """Cancel a revision that is held, queued or running."""
    ledger, engine = _open(config)
    row = ledger.cancel(revision)
    engine.cancel(row.job_key)
    _told(ledger, "cancel", revision)
    typer.echo(f"revision {revision} is CANCELLED")


@app.command()
def review(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the studies whose outlines a person has to look at, with the reason.

    The node drew liver and tumours itself, and they are possible but doubtful. Nothing is forecast of them
    yet. There are three ways on: correct the proposal in the PACS and send the corrected segmentation to
    the node; take the outlines as they are with `jobs release`; refuse them with `jobs reject`.

    Example: hepatocast jobs review --config site.yaml
    """
    from rich.console import Console
    from rich.table import Table

    pending = _reviews(config).pending()
    if as_json:
        rows = [
            {
                "revision": p.revision.id,
                "study_instance_uid": p.revision.study_instance_uid,
                "reason": p.reason,
                "held_at": p.held_at,
                "proposals": [{"peer": peer, "state": state} for peer, state in p.proposals],
            }
            for p in pending
        ]
        typer.echo(json.dumps(rows, indent=1))
    elif pending:
        table = Table(box=None, header_style="bold")
        for title in ("#", "Study", "Since", "Proposal", "Reason"):
            table.add_column(title, overflow="fold", no_wrap=title in ("#", "Since"))
        for p in pending:
            sent = ", ".join(f"{state} at {peer}" for peer, state in p.proposals) or "not sent"
            uid = f"…{p.revision.study_instance_uid[-16:]} r{p.revision.number}"
            table.add_row(str(p.revision.id), uid, _when(p.held_at), sent, p.reason)
        Console().print(table)
    else:
        typer.echo("no study waits for review")


def _reviews(config: list[Path] | None) -> Reviews:
    from dicom_node.jobs.reviews import Reviews

    ledger, _ = _open(config)
    return Reviews(ledger)


@app.command()
def release(revision: RevisionArgument, config: ConfigOption = None) -> None:
    """Take the outlines of a revision in REVIEW as they are, and forecast.

    The release holds for these outlines: where other models were activated meanwhile, theirs are looked
    at anew.
    """
    reviews = _reviews(config)
    state = reviews.release(revision)
    _told(reviews.ledger, "release", revision)
    typer.echo(f"revision {revision} is {state}")


@app.command()
def reject(
    revision: RevisionArgument,
    reason: Annotated[str | None, typer.Option(help="Why, without names; shown with the study.")] = None,
    config: ConfigOption = None,
) -> None:
    """Refuse a revision in REVIEW because its outlines are wrong."""
    from dicom_node.jobs.reviews import REJECTED_REASON

    text = f"{REJECTED_REASON}: {reason}" if reason else REJECTED_REASON
    reviews = _reviews(config)
    state = reviews.reject(revision, text)
    _told(reviews.ledger, "reject", revision, reason or "")
    typer.echo(f"revision {revision} is {state}")


@app.command()
def watch(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Show the table once and end.")] = False,
) -> None:
    """Show the table of studies and keep it up to date, until Ctrl-C."""
    import threading

    from rich.console import Console
    from rich.live import Live

    ledger, engine = _open(config)

    def table() -> RenderableType:
        return _table([_summary(row, ledger, engine) for row in ledger.revisions()])

    if once:
        Console().print(table())
        return
    pause = threading.Event()
    with Live(table(), refresh_per_second=2) as live:
        while not pause.wait(WATCH_EVERY_S):
            live.update(table())
