"""``hepatocast train`` of the systems of published studies, which give second opinions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.terminal import progress_bar
from dicom_node.cli.work_folder import work_folder

_Cohort = Annotated[
    Path, typer.Argument(metavar="COHORT", help="Folder of a prepared cohort of one modality.")
]
_Out = Annotated[Path, typer.Option(help="Folder of the bundle; made if absent.")]
_Seed = Annotated[int, typer.Option(min=0, help="The same seed and cohort give the same model.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
_Regimens = Annotated[
    list[str] | None,
    typer.Option("--regimen", help="Learn from patients who had this regimen; several times."),
]


def resnet50_mlp(
    cohort: _Cohort,
    out: _Out,
    regimen: _Regimens = None,
    every_regimen: Annotated[
        bool, typer.Option("--every-regimen", help="Learn from all patients, whatever they were given.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 600,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train ResNet50 + MLP: objective response, and a Cox nomogram of progression-free survival.

    A residual network looks at the slices that hold tumour, averaged over a patient's slices, and a
    perceptron joins them with five clinical values (AFP from 400 ng/mL, invasion of the main portal trunk,
    a tumour above 10 cm, capsule, diffuse type): the probability of CR or PR by mRECIST. The nomogram
    adds up to six of the network's image features to the clinical values. The study's network had learned
    from photographs first; this one starts from nothing, which costs it patients. The study's regimen is
    TACE with HAIC, TKI and PD-1 inhibitor, and is the default. Without a GPU a training takes hours; one
    that was stopped continues from the folder OUT.work.

    Example: hepatocast train resnet50-mlp cohort_ct/ --out resnet50_mlp/

    Then hepatocast evaluate --model resnet50-mlp --bundle resnet50_mlp/ --cohort cohort_ct/ --out report/
    """
    from inference.training.cohort import Cohort
    from inference.training.seed_systems.resnet50 import Resnet50Training, train_resnet50

    settings = Resnet50Training()
    chosen = () if every_regimen else tuple(regimen or settings.regimens)
    loop = settings.loop.model_copy(update={"steps": steps, "seed": seed})
    with progress_bar("training ResNet50 + MLP", quiet=quiet) as progress:
        metadata = train_resnet50(
            Cohort.open(cohort),
            out,
            work_folder(out),
            settings.model_copy(update={"loop": loop, "regimens": chosen}),
            progress,
        )
    _say(metadata, out)


def dlop_combin(
    cohort: _Cohort,
    out: _Out,
    regimen: _Regimens = None,
    every_regimen: Annotated[
        bool, typer.Option("--every-regimen", help="Learn from all patients, whatever they were given.")
    ] = False,
    landmark_months: Annotated[
        float, typer.Option(min=0.1, max=11.0, help="Month up to which response to treatment is an input.")
    ] = 3.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each network; there are four.")] = 600,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train DLOP_Combin: survival by year from images, clinical values and early response.

    ResNet101 and a perceptron give the probability to live through each year; their product is three-year
    survival. Its four comparators are fitted beside it: images alone (CTR), their output in a Cox model,
    radiomics in a lasso Cox model, and clinical values in a Cox model. The study took the response to
    treatment as if it were known when treatment began. Here the forecast begins at the landmark: patients
    who died or left before it are not used, and their number is told. The study's regimen is TACE, and is
    the default. Without a GPU a training takes hours; one that was stopped continues from OUT.work.

    Example: hepatocast train dlop-combin cohort_ct/ --out dlop_combin/

    Then hepatocast evaluate --model dlop-combin --bundle dlop_combin/ --cohort cohort_ct/ --out report/
    """
    from inference.training.cohort import Cohort
    from inference.training.seed_systems.dlop import DlopTraining, train_dlop

    settings = DlopTraining()
    chosen = () if every_regimen else tuple(regimen or settings.regimens)
    loop = settings.network.loop.model_copy(update={"steps": steps, "seed": seed})
    network = settings.network.model_copy(update={"loop": loop})
    changed = {"network": network, "regimens": chosen, "landmark_months": landmark_months}
    with progress_bar("training DLOP_Combin", quiet=quiet) as progress:
        metadata = train_dlop(
            Cohort.open(cohort), out, work_folder(out), settings.model_copy(update=changed), progress
        )
    landmark = metadata["landmark"]["training"]
    typer.echo(
        f"{landmark['used']} training patients are forecast from month {landmark_months:g} of treatment on; "
        f"not used: {landmark['died_before']} who had died, {landmark['left_before']} who had left, "
        f"{landmark['follow_up_not_known']} of unknown follow-up"
    )
    _say(metadata, out)


COMMANDS: tuple[Callable[..., None], ...] = (resnet50_mlp, dlop_combin)
"""Commands of this file; ``hepatocast train`` registers each under its name."""


def _say(metadata: Any, out: Path) -> None:
    for name, value in metadata["metrics"].items():
        typer.echo(f"validation patients, {name.replace('_', ' ')}: {value}")
    typer.echo(f"the bundle is in {out}")
