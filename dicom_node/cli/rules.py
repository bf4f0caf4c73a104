"""``hepatocast rules explain``: which rule, which series, and why the others were not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dicom_node.routing.rules import Decision
    from dicom_node.settings import NodeSettings
    from inference.case import Case
    from inference.imaging.selection import Selection

app = typer.Typer(no_args_is_help=True, help="Routing rules: what they do with a study, and why.")


@app.callback()
def _rules() -> None:
    """Routing rules: what they do with a study, and why."""


@app.command()
def explain(
    study: Annotated[str, typer.Argument(help="A folder of one study, or the UID of a study in the node.")],
    calling_ae: Annotated[
        str, typer.Option(help="AE title it came from; a stored study's own if absent.")
    ] = "",
    config: Annotated[
        list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain what the node would do with a study: rules, series, contrast phases, refusals.

    Example: hepatocast rules explain study/ --calling-ae PACS --config site.yaml
    """
    from dicom_node.routing.facts import study_facts
    from dicom_node.routing.rules import Router
    from dicom_node.settings import load_settings
    from inference.stages.selection import select

    settings = load_settings(config or [])
    case, sender = _case(study, settings)
    facts = study_facts(case, calling_ae or sender)
    decision = Router(settings.rules, settings.peers).decide(facts)
    selection = select(case)
    if as_json:
        typer.echo(json.dumps(_document(facts, decision, selection, case), indent=1))
    else:
        _print(facts, decision, selection, case)


def _case(study: str, settings: NodeSettings) -> tuple[Case, str]:
    """Return the study in a folder, or of that UID in the node, and the AE title it came from."""
    from dicom_node.errors import ConfigurationError
    from inference.imaging.reading import read_case

    folder = Path(study)
    if folder.is_dir():
        return read_case(folder), ""
    from dicom_node.clock import system_clock
    from dicom_node.database import node_database
    from dicom_node.jobs.ledger import Ledger
    from dicom_node.storage.opening import open_store

    ledger = Ledger(node_database(settings), system_clock)
    inputs = ledger.inputs(study)
    if not inputs:
        raise ConfigurationError(f"{study} is neither a folder nor a study that the node has")
    return read_case(
        list(open_store(settings, "commands").local(f.path for f in inputs).values())
    ), ledger.sender(study)


def _document(facts: dict[str, Any], decision: Decision, selection: Selection, case: Case) -> dict[str, Any]:
    return {
        "facts": facts,
        "rules": [
            {"name": t.rule.name, "when": t.rule.when, "result": str(t.verdict), "error": t.error}
            for t in decision.tried
        ],
        "action": str(decision.action),
        "rule": decision.rule,
        "reason": decision.reason,
        "send_to": list(decision.plan.send_to) if decision.plan else [],
        "chosen": [
            {
                "phase": str(c.phase),
                "series_instance_uid": c.series.series_instance_uid,
                "evidence": c.evidence,
            }
            for c in selection.chosen
        ],
        "segmentations": [s.sop_instance_uid for s in selection.segmentations],
        "rejected": [
            {"series_instance_uid": r.series_instance_uid, "modality": r.modality, "reason": r.reason}
            for r in selection.rejected
        ],
        "left_out": [item.reason for item in case.left_out],
    }


def _print(facts: dict[str, Any], decision: Decision, selection: Selection, case: Case) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    uid = facts["study"]["uid"]
    console.print(f"study {uid}, from {facts['calling_ae'] or '(no sender)'}\n")
    rules = Table("Rule", "Result", "Expression", box=None, header_style="bold", title_justify="left")
    for tried in decision.tried:
        result = str(tried.verdict) + (f": {tried.error}" if tried.error else "")
        rules.add_row(tried.rule.name, result, tried.rule.when)
    console.print(rules)
    why = f": {decision.reason}" if decision.reason else ""
    console.print(f"\n[bold]{decision.action}[/bold] by rule {decision.rule or '(none)'}{why}\n")
    series = Table("Series", "Modality", "Phase", "Why", box=None, header_style="bold")
    for chosen in selection.chosen:
        name = chosen.series.description or f"…{chosen.series.series_instance_uid[-12:]}"
        series.add_row(name, chosen.series.modality, f"[bold]{chosen.phase}[/bold]", chosen.evidence)
    for rejected in selection.rejected:
        name = rejected.description or f"…{rejected.series_instance_uid[-12:]}"
        series.add_row(name, rejected.modality, "not used", rejected.reason)
    console.print(series)
    count = len(selection.segmentations)
    console.print(f"\n{count} segmentation{'s' if count != 1 else ''} in the study")
    if not selection.chosen:
        console.print("[bold]no series can be used[/bold]: the study would be refused")
    elif not count:
        console.print("[bold]no liver segmentation[/bold]: the study would be refused")
    for item in case.left_out:
        console.print(f"left out: {item.reason}")
