"""``hepatocast calibrate-simulation``: fit simulated patients to publications, and report the fit."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Fit(StrEnum):
    """What is done before the report is written."""

    NONE = "none"
    FOLDER = "folder"
    FREEZE = "freeze"


def calibrate_simulation(
    out: Annotated[Path, typer.Option(help="Folder of the report; made if absent.")],
    fit: Annotated[
        Fit,
        typer.Option(
            help="none: report on the calibration in force. folder: fit anew, into the folder of the report. "
            "freeze: fit anew, into the installation, with its digest; for developers."
        ),
    ] = Fit.NONE,
    patients: Annotated[
        int,
        typer.Option(
            min=12, help="Patients of each of nine sources. 100 take about 4 minutes of a core, a fit 10."
        ),
    ] = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the fit; the report uses patients of another seed.")
    ] = 11,
) -> None:
    """Report how close simulated patients come to the publications; or fit them anew.

    Writes `calibration.md` and `calibration.csv` (each figure beside its target, the bar that the
    publication's number of patients leaves, and by how much it is missed) and plots of response,
    progression, survival, and what can be known from a baseline.

    Fit anew after a change of `parameters.yaml`, `targets.yaml` or of the simulator. Cohorts and bundles
    made before bear the digest of the old calibration.

    Example: hepatocast calibrate-simulation --out calibration/
    """
    from dicom_node.cli.terminal import progress_bar
    from dicom_node.settings import load_settings
    from inference.simulation import calibration_run as run
    from inference.simulation.parameters import freeze, load_parameters, write_found

    parameters = load_parameters()
    regimens = {r.id: r for r in load_settings().regimens}
    order = run.CalibrationOrder(patients=patients, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    if fit is not Fit.NONE:
        with progress_bar("calibration", quiet=False) as progress:
            found = run.fit(parameters, regimens, order, progress)
        parameters = parameters.with_found(found)
        if fit is Fit.FREEZE:
            typer.echo(f"frozen, digest {freeze(found)}")
        else:
            typer.echo(f"calibration in {write_found(found, out)}")
    with progress_bar("report", quiet=False) as progress:
        path, rows = run.report(parameters, regimens, order, out, progress)
    missed = sum(row.miss > 0 for row in rows if row.kind in ("published", "real"))
    typer.echo(f"report in {path}; {missed} figures lie outside their bar")
