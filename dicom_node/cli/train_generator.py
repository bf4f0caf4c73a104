"""``hepatocast train generator``: train the generator of virtual follow-up images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.terminal import progress_bar
from dicom_node.cli.work_folder import check_apart


def generator(
    cohort: Annotated[
        list[Path],
        typer.Argument(
            metavar="COHORT...",
            help="Folder of a prepared cohort; give one of CT and one of MR to learn both.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
    config: Annotated[
        list[Path] | None, typer.Option(help="Settings folder or file; later ones override earlier ones.")
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Bundle to go on from, by its folder, or `generator` for the shipped one. The outcome model "
            "of a modality that is not trained stays as it is in it."
        ),
    ] = None,
    regression_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of the one-step network; 0 keeps that of --start-from.")
    ] = None,
    flow_steps: Annotated[
        int | None, typer.Option(min=0, help="Steps of the flow network; 0 keeps that of --start-from.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.")] = None,
    version: Annotated[str | None, typer.Option(help="Version of the bundle.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed and cohort give the same model.")
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option(help="Part of the training patients that is not looked at, such as 1/3; see below."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train the generator of virtual follow-up images, and write its bundle.

    Three parts are trained: the outcome model (how much viable, dead and lipiodol-covered tumour there
    is under each regimen at each month), a network that draws the expected image in one step, and the
    flow-matching network that starts from it. A graphics card is used where there is one; on one core of
    a processor the defaults take about 45 minutes for 1,500 patients.

    How patients fare differs between sites, what tumours look like hardly does: with --start-from and no
    steps, only the outcome model is learned from the cohort, in minutes, and images are drawn by the networks
    of the bundle.

    A run that was stopped continues from its checkpoint when the command is given again; checkpoints and
    learning curves are in the folder OUT.work.

    A survival model that shall learn from virtual follow-ups needs them of patients whom the generator never
    saw: with --leave-out 1/3, 2/3 and 3/3 three generators are trained that together draw everybody for
    `hepatocast train survival`.

    COHORT is a folder made by "hepatocast simulate", or by "hepatocast cohort" from a site's own studies.

    Example: hepatocast train generator cohort_ct/ cohort_mr/ --out my_generator/

    Outcomes alone: hepatocast train generator cohort_mr/ --start-from generator --regression-steps 0
    --flow-steps 0 --out my_generator/

    Then: hepatocast evaluate --model generator, and hepatocast models install my_generator/
    """
    from pydantic import ValidationError

    from dicom_node.settings import load_settings
    from inference.training.cohort import Cohort
    from inference.training.cohort_split import leaving_out
    from inference.training.generator import train_generator
    from inference.training.generator_losses import GeneratorTraining
    from inference.training.generator_start import read_generator_start

    table = {r.id: r for r in load_settings(config or []).regimens}
    asked = {
        "name": name,
        "version": version,
        "regression_steps": regression_steps,
        "flow_steps": flow_steps,
        "seed": seed,
    }
    try:
        settings = GeneratorTraining.model_validate({k: v for k, v in asked.items() if v is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise typer.BadParameter(str(wrong["msg"]), param_hint=f"--{wrong['loc'][0]}") from error
    start = read_generator_start(start_from) if start_from else None
    if start is not None:
        check_apart(out, start.folder)
    cohorts = [Cohort.open(folder) for folder in cohort]
    if leave_out is not None:
        cohorts = [leaving_out(c, leave_out) for c in cohorts]
    with progress_bar("training the generator", quiet=quiet) as progress:
        metadata = train_generator(cohorts, out, table, settings, progress, start)
    for modality in (c.info.modality for c in cohorts):
        found = metadata["metrics"][modality].get("validation")
        if found:
            typer.echo(
                f"{modality}: CRPS of viable volume {found['crps_pct']:.1f} % of baseline "
                f"(climatology {found['climatology_crps_pct']:.1f} %), "
                f"80 % intervals cover {found['coverage80']:.2f}, {found['patients']} patients"
            )
    typer.echo(f"the bundle is in {out}")
