"""``hepatocast train survival``: train the protocol's survival model and write its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.terminal import progress_bar


def survival(
    cohort: Annotated[Path, typer.Argument(help="Prepared cohort; see hepatocast cohort.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
    images: Annotated[
        Path | None,
        typer.Option(
            help="NPZ file with the image vectors of the patients; without it clinical values alone."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train the model of overall and progression-free survival that the study protocol describes.

    A proportional part, linear and smooth in the clinical values, is fitted first; image vectors add what
    the clinical values do not say; networks with attention over clinical values, images and regimen add
    what is left, as far as inner folds of the training patients show that they help. Validation patients
    calibrate it, test patients are measured once, and the figures are in the bundle. Patients may lack any
    value and any image.

    Example: hepatocast train survival cohort/ --out my_survival/

    Then hepatocast models install my_survival/ takes it into the node, and says how to put it in force.
    """
    from inference.training.survival.bundle import train_bundle
    from inference.training.survival.fit import SurvivalSettings

    if not cohort.is_dir():
        raise typer.BadParameter("there is no such folder", param_hint="COHORT")
    with progress_bar("train survival", quiet=quiet) as report:
        metadata = train_bundle(cohort, images, out, SurvivalSettings(), seed, report)
    for part, title in (("test", "test patients"), ("test_without_images", "without their images")):
        for name, found in metadata["metrics"].get(part, {}).items():
            typer.echo(
                f"{title}, {name.upper()}: C {found['c']:.3f}, {found['events']} of {found['patients']} "
                "with the event"
            )
    for name, share in metadata["training"]["network_share"].items():
        typer.echo(f"share of the networks, {name.upper()}: {share:.2f}")
    typer.echo(f"the bundle is in {out}")
