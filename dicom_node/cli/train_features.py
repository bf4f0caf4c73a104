"""``hepatocast train`` image-vectors, slice-features, radiomics-cox and nomogram."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.terminal import progress_bar
from dicom_node.cli.work_folder import work_folder

_Cohort = Annotated[
    Path, typer.Argument(metavar="COHORT", help="Folder of a prepared cohort of one modality.")
]
_Out = Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")]
_Seed = Annotated[int, typer.Option(min=0, help="The same seed and cohort give the same model.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


def image_vectors(
    cohort: _Cohort,
    out: _Out,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 3000,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train the encoder that turns a liver image into 256 numbers, and write its bundle.

    The first 42 numbers are measurements with a name, such as the volume of viable tumour; the others are
    learned from measurable targets and from telling images apart. No outcome of a patient is used. A run
    that was stopped continues; what it needs is in the folder OUT.work.

    Example: hepatocast train image-vectors cohort_ct/ --out image_vectors_ct/
    """
    from inference.training.cohort import Cohort
    from inference.training.image_features.train import EncoderTraining, train_encoder

    settings = EncoderTraining()
    loop = settings.loop.model_copy(update={"steps": steps, "seed": seed})
    with progress_bar("training the image encoder", quiet=quiet) as progress:
        metadata = train_encoder(
            Cohort.open(cohort), out, work_folder(out), settings.model_copy(update={"loop": loop}), progress
        )
    for name, share in metadata["metrics"]["r2"].items():
        typer.echo(f"{name}: R2 {share:.2f} in validation patients")
    typer.echo(f"the bundle is in {out}")


def slice_features(
    cohort: _Cohort,
    out: _Out,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 2000,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train self-supervised features of tumour slices, and write their bundle.

    A small vision transformer learns by self-distillation, without any label, on the three slices with the
    largest tumour of each patient. DELICAITE takes them beside radiomics.

    Example: hepatocast train slice-features cohort_ct/ --out slice_features_ct/
    """
    from inference.training.cohort import Cohort
    from inference.training.image_features.self_distillation import SliceTraining, train_slices

    settings = SliceTraining()
    loop = settings.loop.model_copy(update={"steps": steps, "seed": seed})
    with progress_bar("training slice features", quiet=quiet) as progress:
        metadata = train_slices(
            Cohort.open(cohort), out, work_folder(out), settings.model_copy(update={"loop": loop}), progress
        )
    spread = metadata["metrics"]["answer_entropy"]
    typer.echo(f"entropy of the answers: {spread:.2f} of the largest; near 0 the training collapsed")
    typer.echo(f"the bundle is in {out}")


def radiomics_cox(
    cohort: _Cohort,
    out: _Out,
    endpoint: Annotated[str, typer.Option(help="os or pfs.")] = "os",
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Fit a Cox model of few radiomics features, chosen by a lasso, and write its bundle.

    Shape, intensity and texture of liver and lesions are measured at baseline as the Image Biomarker
    Standardisation Initiative defines them; the penalty is chosen by cross-validation among the training
    patients. It is a comparator of the learned models.

    Example: hepatocast train radiomics-cox cohort_ct/ --out radiomics_cox_ct/ --endpoint pfs
    """
    from inference.training.cohort import Cohort
    from inference.training.radiomics_cox import ENDPOINTS, RadiomicsCoxTraining, train_radiomics_cox

    if endpoint not in ENDPOINTS:
        raise typer.BadParameter(f"one of {', '.join(ENDPOINTS)}", param_hint="--endpoint")
    settings = RadiomicsCoxTraining(endpoint=endpoint, seed=seed)
    with progress_bar("fitting the radiomics Cox model", quiet=quiet) as progress:
        metadata = train_radiomics_cox(Cohort.open(cohort), out, work_folder(out), settings, progress)
    typer.echo(f"{len(metadata['chosen'])} features were chosen")
    if "validation_c" in metadata["metrics"]:
        typer.echo(f"C of validation patients: {metadata['metrics']['validation_c']:.3f}")
    typer.echo(f"the bundle is in {out}")


def nomogram(
    cohort: _Cohort,
    out: _Out,
    endpoint: Annotated[str, typer.Option(help="os or pfs.")] = "pfs",
    image_features: Annotated[
        int, typer.Option(min=0, max=12, help="Most radiomics features; 0 for clinical predictors alone.")
    ] = 6,
    picture: Annotated[Path | None, typer.Option(help="PNG that the nomogram is drawn to.")] = None,
    quiet: _Quiet = False,
) -> None:
    """Fit a Cox nomogram of clinical predictors and radiomics, and write its bundle.

    Each value has points, and the sum of points has a survival at 12, 18 and 24 months. Clinical
    predictors: AFP, invasion of the main portal trunk, tumour above 10 cm, capsule, diffuse type.

    Example: hepatocast train nomogram cohort_ct/ --out nomogram_ct/ --picture nomogram.png
    """
    from inference.training.cohort import Cohort
    from inference.training.nomogram_cohort import NomogramTraining, train_nomogram
    from inference.training.radiomics_cox import ENDPOINTS

    if endpoint not in ENDPOINTS:
        raise typer.BadParameter(f"one of {', '.join(ENDPOINTS)}", param_hint="--endpoint")
    settings = NomogramTraining(endpoint=endpoint, image_features=image_features)
    with progress_bar("fitting the nomogram", quiet=quiet) as progress:
        metadata = train_nomogram(Cohort.open(cohort), out, work_folder(out), settings, progress)
    if "validation_c" in metadata["metrics"]:
        typer.echo(f"C of validation patients: {metadata['metrics']['validation_c']:.3f}")
    if picture is not None:
        _draw(out, picture, str(metadata["trained_on"]))
        typer.echo(f"the nomogram is drawn in {picture}")
    typer.echo(f"the bundle is in {out}")


def _draw(bundle: Path, picture: Path, trained_on: str) -> None:
    from PIL import Image

    from inference.clinical.nomogram import Nomogram
    from reporting.drawing import Heading
    from reporting.nomogram_picture import nomogram_picture

    found = Nomogram.read(bundle)
    words = "DEMONSTRATION MODEL" if "simulated" in trained_on else "AI PREDICTION"
    alert = f"{words} - RESEARCH ONLY"
    heading = Heading(
        "Cox nomogram", "Add the points of all lines; read survival below the sum", trained_on, alert
    )
    Image.fromarray(nomogram_picture(found, heading)).save(picture)
