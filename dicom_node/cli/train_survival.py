"""``hepatocast train survival``: train the protocol's survival model and write its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.terminal import progress_bar
from dicom_node.cli.work_folder import work_folder

if TYPE_CHECKING:
    from inference.models.protocols import Progress


def survival(
    cohort: Annotated[Path, typer.Argument(help="Prepared cohort; see hepatocast cohort.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
    images: Annotated[
        Path | None,
        typer.Option(
            help="NPZ file with image vectors of the patients, such as those of virtual follow-ups from a "
            "generator that never saw them."
        ),
    ] = None,
    image_vectors: Annotated[
        Path | None,
        typer.Option(
            help="Bundle of `train image-vectors`, which describes the baselines. With neither option: "
            "clinical values alone."
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

    A node takes images for its forecast only where the active image encoder is the one of the training.

    Example: hepatocast train survival cohort/ --image-vectors image_vectors_ct/ --out my_survival/

    Then hepatocast models install my_survival/ takes it into the node, and says how to put it in force.
    """
    from inference.models.protocols import within
    from inference.training.survival.bundle import train_bundle
    from inference.training.survival.fit import SurvivalSettings

    if not cohort.is_dir():
        raise typer.BadParameter("there is no such folder", param_hint="COHORT")
    if images is not None and image_vectors is not None:
        raise typer.BadParameter("give --images or --image-vectors, not both", param_hint="--images")
    with progress_bar("train survival", quiet=quiet) as report:
        if image_vectors is not None:
            work = work_folder(out)
            images = _described(cohort, image_vectors, work, within(report, 0.0, 0.3))
        metadata = train_bundle(cohort, images, out, SurvivalSettings(), seed, within(report, 0.3, 1.0))
    for part, title in (("test", "test patients"), ("test_without_images", "without their images")):
        for name, found in metadata["metrics"].get(part, {}).items():
            typer.echo(
                f"{title}, {name.upper()}: C {found['c']:.3f}, {found['events']} of {found['patients']} "
                "with the event"
            )
    for name, share in metadata["training"]["network_share"].items():
        typer.echo(f"share of the networks, {name.upper()}: {share:.2f}")
    typer.echo(f"the bundle is in {out}")


def _described(cohort: Path, bundle: Path, work: Path, progress: Progress) -> Path:
    """Write the vectors of the baselines, and return their file."""
    from inference.bundle_store import BundleKind
    from inference.models.catalogue import load_model
    from inference.training.cohort import Cohort
    from inference.training.survival.baseline_images import baseline_images
    from inference.training.survival.sources import write_image_file

    describer = load_model(bundle, BundleKind.IMAGE_VECTORS)
    found = baseline_images(Cohort.open(cohort), describer.model, work / "vectors", progress)
    write_image_file(work / "images.npz", found)
    return work / "images.npz"
