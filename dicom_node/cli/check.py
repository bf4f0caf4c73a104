"""``hepatocast check``: does the configuration hold, on this machine and with its peers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_node.selftest import Check


def check(
    config: Annotated[
        list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
    ] = None,
    pacs: Annotated[str | None, typer.Option(help="Only the peer of this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Also send a test message by each channel of alerts.")
    ] = False,
) -> None:
    """Check the configuration, the data folder, the models and every peer, each line with what to do.

    For the models: the bundles in force are verified and loaded; each site segmenter of the configuration
    is available, or it is said why not.

    For DICOM TLS: keys and certificates are loaded, and it is said how long they are valid; one that
    ends within 30 days is not well.

    For the sources of clinical values: each file is read, each database asked, each encoder loaded.

    For each peer: C-ECHO, which kinds of objects it accepts, C-FIND where it is configured, and a
    marked test object (patient HEPATOCAST-CHECK) that is stored, committed and read back.

    Exit codes: 0 all is well, 1 something is not, 2 the configuration is wrong.
    """
    from dicom_node.clock import system_clock
    from dicom_node.observation.selftest import check_alerts, check_page
    from dicom_node.selftest import check_clinical, check_machine, check_models, check_peer, check_tls
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    peers = settings.peers if pacs is None else (settings.peer(pacs),)
    found = [*check_machine(settings), *check_tls(settings, system_clock)]
    found += [*check_models(settings), *check_clinical(settings), *check_page(settings)]
    found += check_alerts(settings) if alerts else ()
    for peer in peers:
        found += check_peer(settings, peer, system_clock)
    if as_json:
        typer.echo(json.dumps([asdict(c) for c in found], indent=1))
    else:
        _print(found)
        if not peers:
            typer.echo("no peers are configured; add the PACS under peers:")
    if not all(c.passed for c in found):
        raise typer.Exit(1)


def _print(found: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("", "Where", "Check", "Found"):
        table.add_column(title, overflow="fold")
    for item in found:
        mark = "[green]✓[/green]" if item.passed else "[red]✗[/red]"
        table.add_row(mark, item.subject, item.name, item.detail)
    Console().print(table)
