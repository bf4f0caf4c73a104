"""``hepatocast train generator``: train the generator of virtual follow-up images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def generator(
    cohort: Annotated[
        list[Path],
        typer.Option(help="Folder of a prepared cohort; give it twice for one of CT and one of MR."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
    config: Annotated[
        list[Path] | None, typer.Option(help="Settings folder or file; later ones override earlier ones.")
    ] = None,
    regression_steps: Annotated[int, typer.Option(help="Steps of the one-step network.")] = 1500,
    flow_steps: Annotated[int, typer.Option(help="Steps of the flow network.")] = 2500,
    name: Annotated[str, typer.Option(help="Name of the bundle.")] = "generator",
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    seed: Annotated[int, typer.Option(help="The same seed and cohort give the same model.")] = 0,
) -> None:
    """Train the generator of virtual follow-up images, and write its bundle.

    Three parts are trained: the outcome model (how much viable, dead and lipiodol-covered tumour, under
    each regimen and month), a one-step network, and the flow-matching network that starts from it.
    A run that was stopped continues from its checkpoint when the command is given again; checkpoints and
    learning curves are in the folder OUT.work. A graphics card is used where there is one.

    The cohort is a folder made by "hepatocast simulate" or from a site's own studies.

    Example: hepatocast train generator --cohort cohort_ct/ --out my_generator/
    """
    from dicom_node.cli.terminal import progress_bar
    from dicom_node.settings import load_settings
    from inference.training.cohort import Cohort
    from inference.training.generator import GeneratorTraining, train_generator

    table = {r.id: r for r in load_settings(config or []).regimens}
    settings = GeneratorTraining(
        name=name, version=version, regression_steps=regression_steps, flow_steps=flow_steps, seed=seed
    )
    with progress_bar("Training the generator", quiet=False) as progress:
        metadata = train_generator([Cohort.open(c) for c in cohort], out, table, settings, progress)
    for modality in (c["modality"] for c in metadata["cohorts"]):
        found = metadata["metrics"][modality].get("validation")
        if found:
            typer.echo(
                f"{modality}: CRPS of viable volume {found['crps_pct']:.1f} % of baseline "
                f"(climatology {found['climatology_crps_pct']:.1f} %), "
                f"80 % intervals cover {found['coverage80']:.2f}, {found['patients']} patients"
            )
    typer.echo(f"the bundle is in {out}")
