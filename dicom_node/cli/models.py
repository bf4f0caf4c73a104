"""``hepatocast models``: the bundles of a node; which are in force, and how to change that."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dicom_node.bundles.activation import Activations
    from dicom_node.bundles.listing import ListedBundle

DIGEST_SHOWN = 12

app = typer.Typer(
    no_args_is_help=True,
    help="""Models: list, show, verify, install, activate and roll back.

A bundle is a folder of weights with metadata: its kind (segmenter, phase, generator, survival,
comparison, image_vectors or second_opinion), its version, what it was trained on, how well it did, and
digests. Some come with the product; `hepatocast train` makes others from a site's own archive. One of each
kind is active; second opinions are asked where models.yaml names their folders.

A node that runs uses a newly activated bundle from its next job on; a job that runs finishes with those
it began with. Nothing needs to be restarted, and no study is lost. Results say which bundles made them,
and a study that is sent again after a change is forecast anew.

To replace a shipped bundle by one of your own:

1. `hepatocast train segmenter ... --out my_bundle` writes the bundle;

2. `hepatocast evaluate --model segmenter ...` measures it on cases it has not seen;

3. `hepatocast models install my_bundle` verifies it and copies it into the node;

4. `hepatocast models activate DIGEST` puts it in force, once it could be loaded;

5. `hepatocast models rollback segmenter` returns to the one before, should it disappoint.
""",
)

ConfigOption = Annotated[
    list[Path] | None, typer.Option("--config", help="The configuration of the node; several times.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[
    str, typer.Argument(help="Name, NAME@VERSION, or the first characters of the digest.")
]


def _open(config: list[Path] | None) -> Activations:
    """Open the activations of the node; its data folder is made where it is not there."""
    from dicom_node.bundles.activation import Activations
    from dicom_node.clock import system_clock
    from dicom_node.database import node_database
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    return Activations(node_database(settings), settings.data_dir, system_clock)


def _look(config: list[Path] | None) -> Activations:
    """Open the activations to look at them: where there is no node yet, nothing is made."""
    from dicom_node.bundles.activation import Activations
    from dicom_node.clock import system_clock
    from dicom_node.database import empty_database, has_database
    from dicom_node.settings import load_settings

    settings = load_settings(config or [])
    if has_database(settings):
        return _open(config)
    return Activations(empty_database(), settings.data_dir, system_clock)


def _document(bundle: ListedBundle) -> dict[str, Any]:
    return {**asdict(bundle), "folder": str(bundle.folder), "status": str(bundle.status)}


def _table(bundles: tuple[ListedBundle, ...]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold")
    for title in ("Kind", "Name, and trained on", "Version", "Digest", "Status", "From"):
        table.add_column(title, overflow="fold", no_wrap=title in ("Kind", "Version", "Digest", "From"))
    for b in sorted(bundles, key=lambda b: (b.kind, b.name, b.version)):
        name = Text.assemble(b.name, (f"\n{b.trained_on}", "dim"))
        status = f"{b.status}: {b.problem}" if b.problem else str(b.status)
        table.add_row(b.kind, name, b.version, b.sha256[:DIGEST_SHOWN], status, b.origin)
    return table


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List all bundles, each verified: active, available, damaged, incompatible or missing.

    With them come the second opinions that the configuration names, and below them the site's own segmenters:
    available, or why not.

    Example: hepatocast models list --config site.yaml
    """
    from rich.console import Console

    from dicom_node.bundles.listing import asked, listed
    from dicom_node.settings import load_settings
    from inference.models.plugins.table import plugin_states

    settings = load_settings(config or []).models
    found, opinions = listed(_look(config)), asked(settings)
    states = plugin_states(settings)
    if as_json:
        document = {
            "bundles": [_document(b) for b in found],
            "second_opinions": [_document(b) for b in opinions],
            "segmenters": [asdict(s) for s in states],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    console = Console()
    console.print(_table((*found, *opinions)))
    console.print()
    if not states:
        console.print("no site segmenter is configured; see models.segmenters: in config/models.yaml")
    for state in states:
        word = "available" if state.available else "not available"
        console.print(
            f"site segmenter {state.name} ({state.program}): {word}: {state.detail}", highlight=False
        )


@app.command()
def show(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show all that a bundle says of itself: what it was trained on, how well it did, its limits.

    Example: hepatocast models show mechanistic
    """
    bundle = _look(config).find(name)
    if as_json:
        typer.echo(json.dumps(dict(bundle.metadata), indent=1, sort_keys=True))
        return
    import yaml

    typer.echo(f"{bundle.kind} {bundle.info.name} {bundle.info.version}, {bundle.folder}")
    typer.echo(yaml.safe_dump(dict(bundle.metadata), sort_keys=True, allow_unicode=True).rstrip())


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="One bundle, or a folder; all when left out.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the files of bundles against their digests, and whether this program can run them.

    Exit codes: 0 all are whole, 1 one is damaged or incompatible.

    Example: hepatocast models verify my_bundle/
    """
    from dicom_node.bundles.listing import UNUSABLE, listed, listed_folder

    activations = _look(config)
    if name is not None and (Path(name) / "metadata.json").is_file():
        found: tuple[ListedBundle, ...] = (listed_folder(Path(name)),)
    elif name is not None:
        found = (listed_folder(activations.folder(name)),)
    else:
        found = listed(activations)
    if as_json:
        typer.echo(json.dumps([_document(b) for b in found], indent=1))
    else:
        for b in found:
            typer.echo(f"{b.name} {b.version} {b.sha256[:DIGEST_SHOWN]}: {b.problem or 'whole'}")
    if any(b.status in UNUSABLE for b in found):
        raise typer.Exit(1)


@app.command()
def install(
    folder: Annotated[Path, typer.Argument(help="Folder of a bundle, such as `hepatocast train` writes.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify a bundle and copy it into the data folder of the node. It is not active yet.

    Example: hepatocast models install my_bundle/ --config site.yaml
    """
    from dicom_node.bundles.store import install as install_bundle
    from inference.bundle_store import BundleKind

    bundle = install_bundle(folder, _open(config).data_dir)
    if as_json:
        document = {**asdict(bundle.info), "kind": str(bundle.kind), "folder": str(bundle.folder)}
        typer.echo(json.dumps(document, indent=1))
        return
    digest = bundle.info.sha256[:DIGEST_SHOWN]
    typer.echo(f"{bundle.kind} {bundle.info.name} {bundle.info.version} is installed as {digest}")
    if bundle.kind is BundleKind.SECOND_OPINION:
        typer.echo(f"ask it beside the forecast: add {bundle.folder} to second_opinions in models.yaml")
    else:
        typer.echo(f"put it in force with: hepatocast models activate {digest}")


@app.command()
def activate(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put a bundle in force for its kind, from the next job on.

    It is verified and loaded first: one that cannot be loaded leaves everything as it was.

    Example: hepatocast models activate 4f0c19d2 --config site.yaml
    """
    bundle = _open(config).activate(name)
    if as_json:
        typer.echo(json.dumps({"kind": str(bundle.kind), "sha256": bundle.info.sha256}))
    else:
        typer.echo(f"the {bundle.kind} in force is {bundle.info.name} {bundle.info.version}")


@app.command()
def rollback(
    kind: Annotated[str, typer.Argument(help="segmenter, phase, generator or survival.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Return to the bundle of a kind that was in force before the last one.

    Example: hepatocast models rollback generator
    """
    from inference.bundle_store import BundleKind

    try:
        part = BundleKind(kind)
    except ValueError:
        raise typer.BadParameter(f"{kind!r} is no kind; kinds are {', '.join(BundleKind)}") from None
    activations = _open(config)
    activations.roll_back(part)
    sha256 = activations.named_in_force().get(part, "")
    if as_json:
        typer.echo(json.dumps({"kind": str(part), "sha256": sha256}))
    else:
        typer.echo(f"the {part} in force is {sha256[:DIGEST_SHOWN] or 'none'}")


@app.command()
def history(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show when which bundle was activated or rolled back.

    Example: hepatocast models history --config site.yaml
    """
    changes = _look(config).history()
    if as_json:
        rows = [{**asdict(c), "kind": str(c.kind), "event": str(c.event)} for c in changes]
        typer.echo(json.dumps(rows, indent=1))
        return
    for change in changes:
        when = datetime.fromtimestamp(change.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        what = change.sha256[:DIGEST_SHOWN] or "the shipped default"
        typer.echo(f"{when}  {change.kind}  {change.event}  {what}")
    if not changes:
        typer.echo("the bundles in force are the shipped ones; nothing was ever changed")
