"""``hepatocast evaluate --model NAME`` for the systems of published studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from dicom_node.cli.terminal import progress_bar


@dataclass(frozen=True, slots=True)
class SystemRequest:
    """Which system is measured, and on which patients, as it was asked for."""

    name: str
    bundle: str | None
    cohorts: tuple[Path, ...]


def system_predictions(request: SystemRequest, out: Path) -> Path:
    """Ask a system about a cohort; return the folder of predictions, which is made in `out`.

    Raises
    ------
    typer.BadParameter
        The system is not known, or bundle or cohort are not given.
    """
    from inference.evaluation.seed_systems import SYSTEMS, write_system_predictions
    from inference.training.cohort import Cohort

    if request.name not in SYSTEMS:
        known = ", ".join(("generator", "segmenter", *SYSTEMS))
        raise typer.BadParameter(f"one of {known}", param_hint="--model")
    if request.bundle is None:
        raise typer.BadParameter("name the bundle of the system", param_hint="--bundle")
    if len(request.cohorts) != 1:
        raise typer.BadParameter("a system is measured on one prepared cohort", param_hint="--cohort")
    folder = out / "predictions"
    with progress_bar("asking the system", quiet=False) as progress:
        cohort = Cohort.open(request.cohorts[0])
        write_system_predictions(request.name, request.bundle, cohort, folder, progress)
    return folder
