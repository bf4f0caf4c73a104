"""``hepatocast decisions``: what clinicians decided on forecasts, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_node.audit.decisions import Decisions

app = typer.Typer(
    no_args_is_help=True,
    help="""What clinicians decided on forecasts: the regimen chosen, agreed or overridden, and why.

A decision is kept with the digest of the forecast it is about and stands in the audit trail. It is never
changed; who changes their mind adds another one.
""",
)

ConfigOption = Annotated[
    list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
]


class VerdictName(StrEnum):
    """Verdicts as the command line names them."""

    AGREE = "agree"
    OVERRIDE = "override"


def _decisions(config: list[Path] | None) -> Decisions:
    from dicom_node.audit.decisions import Decisions
    from dicom_node.clock import system_clock
    from dicom_node.database import node_database
    from dicom_node.settings import load_settings

    return Decisions(node_database(load_settings(config or [])), system_clock)


@app.command()
def add(
    revision: Annotated[int, typer.Argument(help="Number in the first column of `jobs list`.")],
    verdict: Annotated[VerdictName, typer.Argument(help="Whether the forecast was followed.")],
    regimen: Annotated[
        str, typer.Option(help="The regimen that was chosen; its id, or the words for another.")
    ],
    reason: Annotated[str, typer.Option(help="Why, without names.")],
    user: Annotated[str | None, typer.Option(help="Who decided; without, who runs this command.")] = None,
    config: ConfigOption = None,
) -> None:
    """Record what was decided on the forecast of a revision.

    Example: hepatocast decisions add 12 override --regimen sorafenib --reason "portal vein thrombosis"
    """
    import getpass

    from dicom_node.audit.decisions import Choice, Verdict

    choice = Choice(user or getpass.getuser(), Verdict(verdict), regimen, reason)
    made = _decisions(config).add(revision, choice)
    typer.echo(f"decision {made.id} on forecast {made.forecast_digest[:16]} is recorded")


@app.command("list")
def list_(
    revision: Annotated[int | None, typer.Option(help="Only of this revision.")] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List decisions, oldest first."""
    from dataclasses import asdict

    made = _decisions(config).all(revision)
    if as_json:
        typer.echo(json.dumps([asdict(d) for d in made], indent=1))
        return
    for d in made:
        at = datetime.fromtimestamp(d.at, UTC).isoformat(timespec="seconds")
        recommended = f" (recommended: {d.recommended})" if d.recommended else ""
        typer.echo(
            f"{at} revision {d.revision_id} {d.user} {d.verdict}: {d.regimen}{recommended}; {d.reason}"
        )
    if not made:
        typer.echo("no decision is recorded")
