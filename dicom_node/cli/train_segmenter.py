"""``hepatocast train segmenter``: from label maps, a site's own cases, and a bundle to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.terminal import progress_bar
from dicom_node.cli.work_folder import check_apart, work_folder


def segmenter(
    out: Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")],
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for label maps and checkpoints; OUT with .work added unless given."),
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option(
            help="A site's own cases: cases.csv (case, image, label, modality), or a folder for each "
            "case with image and label, or with DICOM images and a segmentation object."
        ),
    ] = None,
    modality: Annotated[list[str] | None, typer.Option(help="CT or MR; both unless given.")] = None,
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Bundle to go on from, by its folder, or `segmenter` for the shipped one. Networks of a "
            "modality that is not trained stay as they are in it."
        ),
    ] = None,
    coarse_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of the network that finds organs; 0 keeps that of --start-from."),
    ] = None,
    fine_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps of the network that draws the liver; 0 keeps that of --start-from."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the first steps; it falls to nearly nothing.")
    ] = None,
    label_maps: Annotated[int | None, typer.Option(help="Random abdomens to train on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is drawn by lot.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw label maps.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train the networks that outline liver and tumours on CT and MR.

    Without data of your own the networks learn from synthetic images of random label maps, as the
    shipped bundle did (about three hours on one core of a processor). With --cases, half of the steps
    see your own images. With --start-from the networks begin as those of a bundle (one that has no
    network for the modality lends that of another), and a few hundred steps do. A run that was stopped
    continues from its checkpoint when it is called again with the same folders.

    Example: hepatocast train segmenter --out my_segmenter/ --cases our_livers/ --start-from segmenter
    --modality CT --coarse-steps 600 --fine-steps 600

    Then: hepatocast evaluate --model segmenter, and hepatocast models install my_segmenter/
    """
    from inference.evaluation.segmentation_cases import LabelValues, find_cases, read_case_volumes
    from inference.training.segmenter.start import read_start
    from inference.training.segmenter.train import SegmenterTraining, train_segmenter

    asked = {
        "modalities": tuple(modality) if modality else None,
        "label_maps": label_maps,
        "coarse_steps": coarse_steps,
        "fine_steps": fine_steps,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    for name in modality or ():
        if name not in ("CT", "MR"):
            raise typer.BadParameter("must be CT or MR", param_hint="--modality")
    settings = SegmenterTraining.model_validate({k: v for k, v in asked.items() if v is not None})
    start = read_start(start_from) if start_from else None
    if start is not None:
        check_apart(out, start.folder)
    own = [read_case_volumes(f, LabelValues()) for f in find_cases(cases, "CT")] if cases else []
    with progress_bar("training the segmenter", quiet=quiet) as report:
        metadata = train_segmenter(settings, out, work or work_folder(out), report, own, workers, start)
    for name, figures in metadata["training"].items():
        typer.echo(f"{name}: loss {figures['validation_loss']:.3f} on held-out label maps")
    typer.echo(f"the bundle is in {out}")
