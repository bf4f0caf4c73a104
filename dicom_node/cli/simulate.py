"""``hepatocast simulate``: a simulated cohort for training and measuring imaging models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Option(help="Folder of the cohort; made if absent, finished if begun.")],
    patients: Annotated[int, typer.Option(min=1, help="Number of patients.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same patients.")] = 0,
    modality: Annotated[str, typer.Option(help="CT or MR.")] = "CT",
    shifted: Annotated[
        bool,
        typer.Option(
            "--shifted", help="The second simulator: other disease, noise and scanner; an external test set."
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Simulate patients with liver cancer: images, clinical values, and their fate under every regimen.

    Writes a prepared cohort as `hepatocast train` reads it. A run that was interrupted goes on where it
    stopped when the same command is given again. Simulated patients are for development and for
    measuring models; nothing learned from them alone is advice for a real one.

    Example: hepatocast simulate --patients 200 --seed 1 --workers 2 --out cohort/
    """
    from dicom_node.cli.terminal import progress_bar
    from dicom_node.settings import load_settings
    from inference.simulation.cohort import Request, write_cohort

    if modality not in ("CT", "MR"):
        raise typer.BadParameter("give CT or MR", param_hint="--modality")
    regimens = load_settings().regimens
    request = Request(seed=seed, modality=modality, shifted=shifted, regimens=regimens)
    with progress_bar("simulation", quiet=False) as progress:
        cohort = write_cohort(request, patients, out, workers, progress)
    typer.echo(f"{cohort.info.patients} patients in {out}, digest {cohort.info.sha256[:16]}")
