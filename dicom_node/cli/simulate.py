"""``hepatocast simulate``: simulated patients for training and measuring imaging models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """In what form patients are written."""

    COHORT = "cohort"
    DICOM = "dicom"


class Modality(StrEnum):
    """What the images are."""

    CT = "CT"
    MR = "MR"


class Counterfactuals(StrEnum):
    """Which regimens are imaged that a patient did not have."""

    NONE = "none"
    ALL = "all"


def simulate(
    out: Annotated[Path, typer.Option(help="Folder; made if absent, finished if a run was begun there.")],
    patients: Annotated[
        int, typer.Option(min=1, help="Number of patients. More can be added later by a larger number.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same patients.")] = 0,
    kind: Annotated[
        Kind,
        typer.Option(
            help="cohort: crops of the liver as `train` and `evaluate` read them. dicom: whole studies with "
            "true segmentations."
        ),
    ] = Kind.COHORT,
    modality: Annotated[
        Modality, typer.Option(help="CT (arterial, portal venous) or MR (T1 arterial and portal venous, T2).")
    ] = Modality.CT,
    shifted: Annotated[
        bool,
        typer.Option(
            "--shifted",
            help="The second simulator, an external test set: other disease, noise and scanner; "
            "every patient is a test patient.",
        ),
    ] = False,
    months: Annotated[
        str, typer.Option(help="dicom: when follow-ups are scanned, of 1, 3, 6, 9 and 12 months.")
    ] = "3,6",
    counterfactuals: Annotated[
        Counterfactuals,
        typer.Option(help="dicom: none, or all regimens that the patient did not have, in a folder apart."),
    ] = Counterfactuals.NONE,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; about 0.6 GB each, 2 GB for DICOM. Results are the same.")
    ] = 1,
) -> None:
    """Simulate patients with liver cancer: images, clinical values, and their fate under every regimen.

    Patients are drawn from the published populations of the regimens; tumours grow, are treated and grow
    again, and a scanner is simulated. Response, progression and survival are calibrated to the
    publications: `hepatocast calibrate-simulation` shows how well. Simulated patients are for development and
    for measuring models; nothing learned from them alone is advice for a real one.

    A folder gets `patients.csv` (clinical values, treatment, survival; columns that begin with `latent_`
    are simulation truth), `outcomes.csv` (volumes and response under every regimen at 1, 3, 6, 9 and 12
    months), and with `--kind cohort` `images/` (baseline and three follow-ups: the treatment
    that the patient had and two others; 70 % training, 10 % validation, 20 % test patients).

    With `--kind dicom` there are `archive/` and `studies.csv`, which `hepatocast cohort prepare` reads as
    it reads a hospital's, and `counterfactual/`.

    A run that was interrupted goes on where it stopped when the same command is given again. Patients are
    the same whatever the number of processes.

    Example: hepatocast simulate --patients 1500 --seed 1 --workers 4 --out train/

    An external test set: hepatocast simulate --patients 300 --seed 2 --shifted --out shifted/

    Studies: hepatocast simulate --kind dicom --modality MR --patients 20 --months 3,6,12 --out mr/
    """
    from dicom_node.cli.terminal import progress_bar
    from dicom_node.settings import load_settings
    from inference.simulation.cohort import Request, write_cohort

    request = Request(
        seed=seed,
        modality=modality.value,
        shifted=shifted,
        regimens=load_settings().regimens,
        kind=kind.value,
        months=_months(months),
        counterfactuals=counterfactuals.value,
    )
    with progress_bar("simulation", quiet=False) as progress:
        cohort = write_cohort(request, patients, out, workers, progress)
    typer.echo(f"{cohort.info.patients} patients in {out}, digest {cohort.info.sha256[:16]}")


def _months(text: str) -> tuple[float, ...]:
    from inference.simulation.course import MONTHS

    try:
        wanted = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        wanted = ()
    if not wanted or not set(wanted) <= set(MONTHS):
        raise typer.BadParameter("give some of 1,3,6,9,12", param_hint="--months")
    return wanted
