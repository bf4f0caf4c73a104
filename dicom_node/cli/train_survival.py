"""``hepatocast train survival``: train the protocol's survival model and write its bundle."""

from __future__ import annotations

from dataclasses import dataclass
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
        typer.Option(help="NPZ file with image vectors of the patients that another program made."),
    ] = None,
    image_vectors: Annotated[
        Path | None,
        typer.Option(
            help="Bundle of `train image-vectors`, which describes the baselines. With neither option: "
            "clinical values alone."
        ),
    ] = None,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            help="Bundle that draws virtual follow-ups for --image-vectors; several times. Each patient is "
            "drawn by the first that never saw the patient."
        ),
    ] = None,
    month: Annotated[
        list[float] | None,
        typer.Option(help="Month of a virtual follow-up; several times. Without any: 1, 3 and 6."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw; results are the same.")] = 1,
    config: Annotated[list[Path] | None, typer.Option(help="Settings over the packaged defaults.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train the model of overall and progression-free survival that the study protocol describes.

    A proportional part, linear and smooth in the clinical values, is fitted first; image vectors add what
    the clinical values do not say; networks with attention over clinical values, images and regimen add
    what is left, as far as inner folds of the training patients show that they help. Validation patients
    calibrate it, test patients are measured once, and the figures are in the bundle. Patients may lack any
    value and any image.

    Laboratory values over time, reports and angiographies that the cohort holds are used too. With
    --generator the model learns from virtual follow-ups, under the treatment that each patient had. A
    generator that saw a patient's true follow-up would draw it from memory; it is not used for that patient.
    Where one generator was trained on the same cohort, give several that each leave a part out. Vectors are
    kept in the folder OUT.work, and a run that was stopped goes on from there.

    A node takes images for its forecast only where the active image encoder is the one of the training.

    Example: hepatocast train survival cohort/ --image-vectors image_vectors_ct/ --generator part_1/
    --generator part_2/ --generator part_3/ --out my_survival/

    Then hepatocast models install my_survival/ takes it into the node, and says how to put it in force.
    """
    from inference.models.protocols import within
    from inference.training.survival.bundle import train_bundle
    from inference.training.survival.fit import SurvivalSettings

    if not cohort.is_dir():
        raise typer.BadParameter("there is no such folder", param_hint="COHORT")
    if images is not None and image_vectors is not None:
        raise typer.BadParameter("give --images or --image-vectors, not both", param_hint="--images")
    if generator and image_vectors is None:
        raise typer.BadParameter(
            "give the encoder of the images that are drawn, too", param_hint="--image-vectors"
        )
    with progress_bar("train survival", quiet=quiet) as report:
        if image_vectors is not None:
            work = work_folder(out)
            if generator:
                drawing = _Drawing(tuple(generator), tuple(sorted(set(month or ()))), seed, workers)
                images = _drawn(cohort, image_vectors, drawing, config or [], work, within(report, 0.0, 0.3))
            else:
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


@dataclass(frozen=True, slots=True)
class _Drawing:
    generators: tuple[str, ...]
    months: tuple[float, ...]
    seed: int
    workers: int


def _drawn(
    cohort: Path, bundle: Path, asked: _Drawing, config: list[Path], work: Path, progress: Progress
) -> Path:
    """Write the vectors of baselines and cross-fitted virtual follow-ups, and return their file."""
    from dicom_node.settings import load_settings
    from inference.models.image_features.vectors import ImageVectors
    from inference.training.cohort import Cohort
    from inference.training.survival.sources import write_image_file
    from inference.training.survival.virtual_vectors import MONTHS, VirtualOrder, virtual_images

    order = VirtualOrder(
        asked.generators,
        {r.id: r for r in load_settings(config).regimens},
        asked.months or MONTHS,
        asked.seed,
        asked.workers,
    )
    encoder = ImageVectors.from_bundle(bundle)
    found = virtual_images(Cohort.open(cohort), encoder, order, work / "virtual", progress)
    write_image_file(work / "images.npz", found)
    return work / "images.npz"


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
