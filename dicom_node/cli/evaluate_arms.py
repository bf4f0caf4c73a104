"""``hepatocast arms``: what images add to clinical values, real ones and virtual ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from inference.evaluation.arms.run import ArmsReport


def arms(
    cohort: Annotated[
        Path,
        typer.Argument(
            help="Prepared cohort that the generator and the image encoder were trained on; its test "
            "patients are compared."
        ),
    ],
    generator: Annotated[str, typer.Option(help="Bundle that draws virtual images: a name or a folder.")],
    vectors: Annotated[str, typer.Option(help="Bundle that makes image vectors: a name or a folder.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, picture and predictions; made if absent.")],
    external: Annotated[
        list[Path] | None,
        typer.Option(help="Another prepared cohort, forecast but not learned from; several times."),
    ] = None,
    month: Annotated[
        list[float] | None,
        typer.Option(
            min=0.1,
            max=24.0,
            help="Month of a virtual image for forecasts from the start of treatment; several times. "
            "Without any: 1, 3 and 6.",
        ),
    ] = None,
    landmark: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Month from which patients with a real follow-up are followed. Without it each from the "
            "month of the first follow-up image.",
        ),
    ] = None,
    patients: Annotated[int, typer.Option(min=10, help="Test patients of each cohort, at most.")] = 1_000_000,
    folds: Annotated[int, typer.Option(min=2, help="Of the cross-validation.")] = 5,
    network_steps: Annotated[
        int, typer.Option(min=40, help="Most training steps of the networks in each survival model.")
    ] = 400,
    draws: Annotated[int, typer.Option(min=20, help="Resamples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes; the figures are the same with any number.")
    ] = 1,
    config: Annotated[
        list[Path] | None, typer.Option(help="Configuration with the regimens, over the defaults.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Compare survival forecasts from clinical values, baseline images, real and virtual follow-up images.

    Virtual images are drawn under the treatment that the patient had. Nobody is forecast by a model that saw
    the patient: the bundles must say that they were trained on COHORT, whose test patients they never read,
    and the survival models are cross-validated. A real follow-up exists only of those who lived to have it:
    all four arms are measured from its month on, and three of them from the start of treatment too.

    Centres that `hepatocast cohort split --external` keeps apart are external sets, as other cohorts are.

    What was computed stays in the folder work of OUT, and the same command goes on where it was stopped.

    Example: hepatocast arms cohort/ --generator my_generator/ --vectors my_vectors/ --external shifted/
    --out arms/

    Then hepatocast evaluate --predictions arms/predictions_from_treatment --out report/ writes the report.
    """
    from dicom_node.settings import load_settings
    from inference.evaluation.arms.output import write_arms
    from inference.evaluation.arms.plan import VIRTUAL_MONTHS, ArmsPlan, with_steps
    from inference.evaluation.arms.run import ArmsRequest, evaluate_arms
    from inference.training.cohort import Cohort
    from inference.training.cohort_split import external_sets

    plan = ArmsPlan(
        patients=patients,
        months=tuple(sorted(set(month or VIRTUAL_MONTHS))),
        landmark_months=landmark,
        folds=folds,
        draws=draws,
        seed=seed,
        survival=with_steps(network_steps),
    )
    regimens = {r.id: r for r in load_settings(config or []).regimens}
    others = tuple(Cohort.open(folder) for folder in external or [])
    opened = Cohort.open(cohort)
    sets = (*external_sets(opened), *others)
    request = ArmsRequest(opened, sets, generator, vectors, regimens, plan)
    with progress_bar("arms", quiet=quiet) as progress:
        report = evaluate_arms(request, out, workers, progress)
    write_arms(out, report)
    _say(report)
    typer.echo(f"tables, picture and predictions are in {out}")


def _say(report: ArmsReport) -> None:
    from inference.evaluation.arms.output import shown
    from inference.evaluation.arms.plan import ORIGIN_TITLES, TITLES
    from inference.evaluation.predictions.models import Arm

    for origin, reason in report.left_out.items():
        typer.echo(f"{ORIGIN_TITLES[origin]}: not compared, {reason}")
    for found in report.figures:
        typer.echo(
            f"{found.end_point.upper()}, {found.set_name}, {ORIGIN_TITLES[found.origin].lower()}: "
            f"{found.patients} patients, {found.events} events"
        )
        for arm, values in found.figures.items():
            gap = found.differences.get((arm, Arm.CLINICAL))
            more = "" if gap is None else f"; less clinical: {shown(gap['harrell_c'])}"
            typer.echo(f"  {TITLES[arm]}: C {shown(values['harrell_c'])}{more}")
