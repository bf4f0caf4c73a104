"""``hepatocast simulate``: simulated patients for training and measuring imaging models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inference.imaging.phase_evidence import PhaseReader
    from inference.simulation.cohort import Request
    from inference.simulation.site_anatomies import AnatomySource
    from inference.training.cohort import Cohort

_ANATOMY = "In real livers"


class Kind(StrEnum):
    """In what form patients are written."""

    COHORT = "cohort"
    DICOM = "dicom"


class Modality(StrEnum):
    """What the images are."""

    CT = "CT"
    MR = "MR"


class Phase(StrEnum):
    """Phases of CT that a cohort has."""

    ARTERIAL = "arterial"
    PORTAL_VENOUS = "portal_venous"


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
    anatomy: Annotated[
        Path | None,
        typer.Option(
            help="Folder of your own CT studies with a liver mask; tumours are implanted into their livers. "
            "A folder for each study, with DICOM images and a segmentation object, or with image.nii.gz and "
            "label.nii.gz; or cases.csv (case, image, label, phase).",
            rich_help_panel=_ANATOMY,
        ),
    ] = None,
    liver: Annotated[
        list[int] | None,
        typer.Option(
            help="Values of label.nii.gz that are liver, its tumours included; several times. 1 and 2 "
            "unless given.",
            rich_help_panel=_ANATOMY,
        ),
    ] = None,
    tumour: Annotated[
        list[int] | None,
        typer.Option(
            help="Values of label.nii.gz that are tumours of the study's own; several times. 2 unless given.",
            rich_help_panel=_ANATOMY,
        ),
    ] = None,
    phase: Annotated[
        Phase | None,
        typer.Option(help="Phase of image.nii.gz where cases.csv does not say.", rich_help_panel=_ANATOMY),
    ] = None,
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

    With `--anatomy` the livers are real: each patient gets one of your own CT studies, and tumours,
    necrosis, lipiodol and follow-ups are drawn into it with the scan's own noise. A study with one phase
    gives patients with one phase. Tumours that the study itself shows stay in the image and are left out
    of the liver, so mark them in the mask. No study serves both training and test, so give ten or more.
    Studies that cannot be used are named with the reason. The disease and all clinical values are still
    simulated: what is trained on such a cohort stays a demonstration model. The folder holds images of
    real people; keep it as you keep their studies.

    A run that was interrupted goes on where it stopped when the same command is given again. Patients are
    the same whatever the number of processes.

    Example: hepatocast simulate --patients 1500 --seed 1 --workers 4 --out train/

    An external test set: hepatocast simulate --patients 300 --seed 2 --shifted --out shifted/

    Studies: hepatocast simulate --kind dicom --modality MR --patients 20 --months 3,6,12 --out mr/

    In your own livers: hepatocast simulate --anatomy our_ct/ --phase portal_venous --patients 300 --out real/
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
    if anatomy is None:
        if liver or tumour or phase:
            raise typer.BadParameter("only with --anatomy", param_hint="--liver, --tumour, --phase")
        with progress_bar("simulation", quiet=False) as progress:
            cohort = write_cohort(request, patients, out, workers, progress)
    else:
        if modality is not Modality.CT or kind is not Kind.COHORT:
            raise typer.BadParameter("goes with --modality CT and --kind cohort only", param_hint="--anatomy")
        source = _anatomy_source(anatomy, liver, tumour, phase)
        cohort = _in_real_livers(request, source, patients, out, workers)
    typer.echo(f"{cohort.info.patients} patients in {out}, digest {cohort.info.sha256[:16]}")


def _anatomy_source(
    folder: Path, liver: list[int] | None, tumour: list[int] | None, phase: Phase | None
) -> AnatomySource:
    from inference.case import Phase as CasePhase
    from inference.evaluation.segmentation_cases import LabelValues, label_values
    from inference.simulation.site_anatomies import AnatomySource

    default = LabelValues()
    values = LabelValues(label_values(liver or (), default.liver), label_values(tumour or (), default.tumour))
    return AnatomySource(
        folder, values, None if phase is None else CasePhase(phase.value), reader=_phase_reader()
    )


def _phase_reader() -> PhaseReader | None:
    """Return what tells contrast phases from images, where a bundle for it is in force."""
    from dicom_node.bundles.loading import models_of
    from dicom_node.settings import load_settings
    from inference.bundle_store import BundleKind
    from inference.models.catalogue import load_model

    folder = models_of(load_settings()).folders.get(BundleKind.PHASE)
    return None if folder is None else load_model(folder, BundleKind.PHASE)


def _in_real_livers(
    request: Request, source: AnatomySource, patients: int, out: Path, workers: int
) -> Cohort:
    """Write the cohort, and say which studies were left out and what the patients are for."""
    from dicom_node.cli.terminal import progress_bar
    from inference.simulation.implanted_cohort import write_implanted_cohort

    with progress_bar("simulation", quiet=False) as progress:
        result = write_implanted_cohort(request, source, patients, out, workers, progress)
    for study in result.left_out:
        typer.echo(f"left out: {study.name}: {study.reason}", err=True)
    typer.echo(f"{result.studies} studies were used, {len(result.left_out)} left out")
    splits = ", ".join(f"{count} {split}" for split, count in result.by_split.items())
    typer.echo(f"patients by split: {splits}")
    return result.cohort


def _months(text: str) -> tuple[float, ...]:
    from inference.simulation.course import MONTHS

    try:
        wanted = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        wanted = ()
    if not wanted or not set(wanted) <= set(MONTHS):
        raise typer.BadParameter("give some of 1,3,6,9,12", param_hint="--months")
    return wanted
