"""``hepatocast audit``: the audit trail, whether it is whole, and the forecasts that it locks."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dicom_node.settings import NodeSettings

app = typer.Typer(
    no_args_is_help=True,
    help="""The audit trail: messages of PS3.15 A.5 in a chain of digests, below data_dir/audit.

Each line of the files has a message, its number and a digest over it and the line before. Where the
configuration names a syslog server (audit: syslog:), each message goes there too, with number and digest.
""",
)

ConfigOption = Annotated[
    list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
]


def _open(config: list[Path] | None) -> tuple[NodeSettings, sa.Engine]:
    from dicom_node.database import node_database
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    return settings, node_database(settings)


def _used(database: sa.Engine, how: str) -> None:
    """Record that somebody read the trail (PS3.15 A.5.3.2)."""
    import getpass

    from dicom_node.audit.events import AuditEvent, AuditEvents, EventKind
    from dicom_node.clock import system_clock

    event = AuditEvent(EventKind.TRAIL_USED, getpass.getuser(), detail={"command": how})
    AuditEvents(database, system_clock).record(event)


@app.command()
def verify(
    config: ConfigOption = None,
    head: Annotated[
        str | None, typer.Option(help="NUMBER:DIGEST of a record noted elsewhere, as in the syslog server.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that no record was changed, inserted or removed, and that locked forecasts are as they were.

    The chain is followed from its first record to its last, and the last must be the one that the database
    names. Who could write both may have made a new chain: against that, note the head that this command
    prints, or take one from the syslog server, and give it with --head.

    Exit codes: 0 the trail is whole, 1 it is not.

    Example: hepatocast audit verify --head 4711:9f86d081884c7d65...
    """
    from dataclasses import asdict

    from dicom_node.audit.verification import verify_trail
    from dicom_node.clock import system_clock

    settings, database = _open(config)
    found = verify_trail(settings, database, system_clock, head)
    _used(database, "audit verify")
    database.dispose()
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        for note in found.notes:
            typer.echo(f"note: {note}")
        for problem in found.problems:
            typer.echo(f"problem: {problem}", err=True)
        typer.echo(f"{found.records} records, head {found.head.number}:{found.head.digest}")
    if found.problems:
        raise typer.Exit(1)


@app.command()
def show(
    config: ConfigOption = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the last messages.")] = 20,
) -> None:
    """Print the last messages, one XML document on each line."""
    from dicom_node.audit.trail import audit_files

    settings, database = _open(config)
    for record in audit_files(settings).tail()[-last:]:
        typer.echo(record.message)
    _used(database, "audit show")
    database.dispose()


@app.command()
def forecasts(
    out: Annotated[Path | None, typer.Option(help="CSV file to write; standard output without.")] = None,
    config: ConfigOption = None,
) -> None:
    """Export every forecast that was made, to be held against what came.

    One row for each forecast and regimen: study, revision, regimen, probabilities of survival at 12, 24 and
    36 months, median in months, whether it was recommended, the digest that was locked when the forecast
    was made, and that time. `audit verify` says whether these are the numbers that were locked.

    Example: hepatocast audit forecasts --out forecasts.csv
    """
    from dicom_node.audit.forecasts import CSV_COLUMNS, Forecasts, csv_rows
    from dicom_node.clock import system_clock

    _, database = _open(config)
    rows = csv_rows(Forecasts(database, system_clock).all())
    _used(database, "audit forecasts")
    database.dispose()
    if out is None:
        _write(sys.stdout, CSV_COLUMNS, rows)
        return
    with out.open("w", encoding="utf-8", newline="") as stream:
        _write(stream, CSV_COLUMNS, rows)
    typer.echo(f"{len(rows)} rows in {out}", err=True)


def _write(stream: TextIO, columns: tuple[str, ...], rows: list[dict[str, object]]) -> None:
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    writer.writerows(rows)
