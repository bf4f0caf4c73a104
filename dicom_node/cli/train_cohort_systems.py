"""``hepatocast train`` delicaite, selection, vit and resnet-logistic."""

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
_Steps = Annotated[int, typer.Option(min=1, help="Steps of each network, at most.")]
_Seed = Annotated[int, typer.Option(min=0, help="The same seed and cohort give the same model.")]
_Landmark = Annotated[
    float, typer.Option(min=0.0, help="Only patients alive and followed at this month are counted.")
]
_Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


def delicaite(
    cohort: _Cohort,
    out: _Out,
    slices: Annotated[
        Path | None,
        typer.Option(help="Bundle of hepatocast train slice-features; without it they are learned first."),
    ] = None,
    slice_steps: Annotated[int, typer.Option(min=1, help="Steps of the slice features.")] = 2000,
    steps: _Steps = 600,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train DELICAITE: progression after TACE or HAIC, and for whom the other would be better.

    Radiomics, self-supervised slice features and clinical values enter a network that splits the odds of
    progression in what belongs to the patient and what to the treatment. Learns from the patients who had
    TACE or HAIC alone. A run that was stopped continues; what it needs is in the folder OUT.work.

    Example: hepatocast train delicaite cohort_ct/ --out delicaite_ct/
    """
    from inference.training.cohort import Cohort
    from inference.training.seed_systems.delicaite import DelicaiteTraining, train_delicaite

    settings = DelicaiteTraining()
    changed = {
        "loop": settings.loop.model_copy(update={"steps": steps, "seed": seed}),
        "slices": settings.slices.model_copy(
            update={"loop": settings.slices.loop.model_copy(update={"steps": slice_steps, "seed": seed})}
        ),
    }
    with progress_bar("training DELICAITE", quiet=quiet) as progress:
        metadata = train_delicaite(
            Cohort.open(cohort), out, work_folder(out), settings.model_copy(update=changed), progress, slices
        )
    _say("progression", metadata["metrics"]["validation"])
    typer.echo(f"the bundle is in {out}")


def selection(
    cohort: _Cohort,
    out: _Out,
    landmark: _Landmark = 3.0,
    steps: _Steps = 400,
    seed: _Seed = 0,
    quiet: _Quiet = False,
) -> None:
    """Train SELECTION: a transformer of images and clinical values for each of four cohorts, and ATOM.

    Objective response after TACE and after HAIC; survival of a year after each with systemic therapy. The
    flow ATOM over the four scores is part of the second opinion. A vision transformer, a residual network
    with logistic regression and a logistic regression of clinical values are trained beside it, on the same
    patients, so that hepatocast evaluate can hold them against each other. A run that was stopped continues;
    what it needs is in the folder OUT.work.

    Example: hepatocast train selection cohort_ct/ --out selection_ct/
    """
    from inference.models.second_opinions.cohort_networks import Architecture
    from inference.training.seed_systems.cohort_models import train_selection

    _cohort_models(
        train_selection, str(Architecture.SELECTION), cohort, out, (landmark, steps, seed), quiet=quiet
    )


def _comparator(architecture: str, help_text: str) -> Callable[..., None]:
    """Return the command that trains one comparator of SELECTION."""

    def command(
        cohort: _Cohort,
        out: _Out,
        landmark: _Landmark = 3.0,
        steps: _Steps = 400,
        seed: _Seed = 0,
        quiet: _Quiet = False,
    ) -> None:
        from inference.training.seed_systems.cohort_models import train_cohort_models

        asked = (landmark, steps, seed)
        _cohort_models(train_cohort_models, architecture, cohort, out, asked, quiet=quiet)

    command.__name__, command.__doc__ = architecture, help_text
    return command


vit = _comparator(
    "vit",
    """Train a vision transformer of images alone for each cohort of SELECTION, as its comparator.

    Example: hepatocast train vit cohort_ct/ --out vit_ct/
    """,
)
resnet_logistic = _comparator(
    "resnet_logistic",
    """Train a residual network with logistic regression for each cohort of SELECTION, as its comparator.

    The network learns from the images alone; a logistic regression joins its features with clinical values.

    Example: hepatocast train resnet-logistic cohort_ct/ --out resnet_logistic_ct/
    """,
)

COMMANDS: tuple[Callable[..., None], ...] = (delicaite, selection, vit, resnet_logistic)
"""Commands of this file; ``hepatocast train`` registers each under its name."""


def _cohort_models(
    train: Callable[..., Any],
    architecture: str,
    cohort: Path,
    out: Path,
    asked: tuple[float, int, int],
    *,
    quiet: bool,
) -> None:
    from inference.models.second_opinions.cohort_networks import Architecture
    from inference.training.cohort import Cohort
    from inference.training.seed_systems.cohort_models import training_of

    landmark, steps, seed = asked
    settings = training_of(Architecture(architecture), steps, seed)
    settings = settings.model_copy(update={"landmark_months": landmark})
    with progress_bar(f"training {architecture}", quiet=quiet) as progress:
        metadata = train(Cohort.open(cohort), out, work_folder(out), settings, progress)
    for therapy, figures in metadata["metrics"]["validation"].items():
        _say(therapy, figures)
    for therapy, why in metadata["left_out"].items():
        typer.echo(f"{therapy}: no network, because {why}")
    typer.echo(f"the bundle is in {out}")


def _say(name: str, figures: dict[str, float]) -> None:
    counts = f"{figures.get('outcomes', 0):.0f} of {figures.get('n', 0):.0f} validation patients"
    if "auc" not in figures:
        typer.echo(f"{name}: no AUC, {counts} had the outcome")
        return
    limits = f"{figures['lower']:.3f} to {figures['upper']:.3f}"
    typer.echo(f"{name}: AUC {figures['auc']:.3f} ({limits}), {counts} had the outcome")
