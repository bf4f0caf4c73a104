"""``hepatocast evaluate``: measure a model on patients that it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.evaluate_predictions import evaluate_folder
from dicom_node.cli.evaluate_seed_systems import SystemRequest, system_predictions
from dicom_node.cli.evaluate_tables import TableRequest, evaluate_tables, public_names
from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from inference.evaluation.generator_output import Evaluation
    from inference.evaluation.segmentation_run import SegmenterReport

_GENERATOR, _SEGMENTER, _PREDICTIONS = "For a generator", "For a segmenter", "For predictions"
_TABLES = "For the survival model on tables"


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder for the tables and pictures; made if absent.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="What is measured, where it is not a folder of predictions: generator, segmenter, or a "
            "system of a published study, by the name under which hepatocast train makes it."
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Folder with outcomes.csv, models.json and a table for each model and end point.",
            rich_help_panel=_PREDICTIONS,
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=20, help="Resamples of the bootstrap.", rich_help_panel=_PREDICTIONS)
    ] = 1000,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(
            help="Column of outcomes.csv that forms subgroups; several times. Without any: age, and all "
            "columns of a few values.",
            rich_help_panel=_PREDICTIONS,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV file with a row for each patient.", rich_help_panel=_TABLES),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Its column of follow-up, in any unit.", rich_help_panel=_TABLES)
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(
            help="Its column of whether the event was seen (1/0, true/false, yes/no).",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Column that is no covariate, such as an identifier; several times.", rich_help_panel=_TABLES
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="All public tables.", rich_help_panel=_TABLES)
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="One public table: gbsg2, whas500, pbc or flchain; several times.", rich_help_panel=_TABLES
        ),
    ] = None,
    hcc_tace_seg: Annotated[
        Path | None,
        typer.Option(help="Clinical table of HCC-TACE-Seg, version 2, as CSV.", rich_help_panel=_TABLES),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Other model: cox-ridge, forest or no-covariates; several times. Without any: cox-ridge and "
            "forest.",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Divisions into folds; without it five below 1000 patients, else one.",
            rich_help_panel=_TABLES,
        ),
    ] = None,
    bundle: Annotated[
        str | None, typer.Option(help="Bundle of the model: a shipped name or a folder.")
    ] = None,
    cohort: Annotated[
        list[Path] | None,
        typer.Option(
            help="Prepared cohort; its test patients are used. The first is the one that the generator was "
            "trained on; more are external, such as the shifted one.",
            rich_help_panel=_GENERATOR,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with cases.csv (case, image, label, modality), or with a folder for each case "
            "(image.nii.gz and label.nii.gz, or DICOM with a segmentation object). Without a table, cases "
            "are called by the place of their folder in the order of names.",
            rich_help_panel=_SEGMENTER,
        ),
    ] = None,
    patients: Annotated[
        int, typer.Option(min=2, help="Test patients of each cohort, at most.", rich_help_panel=_GENERATOR)
    ] = 300,
    samples: Annotated[
        int, typer.Option(min=1, help="Samples of each follow-up.", rich_help_panel=_GENERATOR)
    ] = 8,
    image_samples: Annotated[
        int,
        typer.Option(
            min=0, help="Samples whose images are compared; 0 leaves images out.", rich_help_panel=_GENERATOR
        ),
    ] = 16,
    image_patients: Annotated[
        int,
        typer.Option(
            min=0, help="Patients whose images are compared voxel by voxel.", rich_help_panel=_GENERATOR
        ),
    ] = 300,
    scalars_only_for_pairs: Annotated[
        bool,
        typer.Option(
            "--scalars-only-for-pairs",
            help="Draw no images for the second regimen and the landmark: faster, less strict.",
            rich_help_panel=_GENERATOR,
        ),
    ] = False,
    mechanistic: Annotated[
        bool,
        typer.Option(
            help="Also measure the mechanistic model; it takes seconds for each follow-up.",
            rich_help_panel=_GENERATOR,
        ),
    ] = True,
    liver: Annotated[
        list[int] | None,
        typer.Option(
            help="Label of the reference that is liver, tumours included; several times.",
            rich_help_panel=_SEGMENTER,
        ),
    ] = None,
    tumour: Annotated[
        list[int] | None,
        typer.Option(
            help="Label of the reference that is tumour; several times.", rich_help_panel=_SEGMENTER
        ),
    ] = None,
    modality: Annotated[
        str, typer.Option(help="CT or MR, where cases do not say.", rich_help_panel=_SEGMENTER)
    ] = "CT",
    workers: Annotated[
        int,
        typer.Option(min=1, help="Processes that score patients side by side.", rich_help_panel=_GENERATOR),
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random draw.")] = 0,
    config: Annotated[list[Path] | None, typer.Option(help="Settings over the packaged defaults.")] = None,
) -> None:
    """Measure models on patients they were not trained on: predictions, a generator, or a segmenter.

    Predictions of survival and response, of any model, are read from a folder: outcomes.csv (patient,
    centre, split, regimen, os_months, os_event, pfs_months, pfs_event, response, and baseline columns),
    models.json (name, title, arm and end_points of each model), and MODEL.os.csv, MODEL.pfs.csv (patient,
    risk, s@12, s@24, s@36) and MODEL.response.csv (patient, probability). report.html and report.pdf give
    discrimination, calibration, decision curves, risk groups, subgroups, paired differences and the arms of
    the protocol with bootstrap intervals, and fill the TRIPOD+AI checklist; metrics.json is the same for
    programs. What cannot be computed is listed with the reason.

    A generator is asked about one random regimen and month for each test patient of a prepared cohort, and
    compared with doing nothing, a uniform change, the mean and the distribution of its regimen, ridge on
    scalars, one-step regression and the mechanistic model. generator.md says for each: error and coverage
    of viable volume, diameter, response class, response rates, differences between regimens, HU of the
    lesions, who responds and who dies, FID and KID with their floor; each with a bootstrap interval, over
    all and by regimen, and which bars are met. A model that does not beat the climatology of its regimen
    should not be used. For a simulated cohort `hepatocast cohort redraw` first makes an oracle, the best that
    any forecast could be. An image takes seconds: scores of patients are kept in OUT.work, and an evaluation
    that was stopped goes on from there when the same command is given again.

    A system of a published study, by the name under which hepatocast train makes it, is asked about the
    patients of a prepared cohort that it was not trained on; what it says is kept in OUT/predictions and
    measured like any predictions. The published figures stand in the report beside those measured.

    A segmenter is measured on cases with a reference: Dice and surface distances of liver and tumour, and
    lesions found and missed.

    The survival model itself, fitted to clinical columns alone, is compared with a Cox model with ridge
    penalty and a random survival forest by repeated five-fold cross-validation, on a table of your own, on
    public ones, or on HCC-TACE-Seg: Harrell's and Uno's C, integrated Brier score, paired differences, in
    tables.md and tables.json. Nothing is tuned on patients that it is measured on. Public tables and the
    forest need the extra packages of pip install 'hepatocast[evaluation]'.

    Example: hepatocast evaluate --public --out report/

    Example: hepatocast evaluate --table patients.csv --time os_months --event os_event --leave-out patient_id
    --out report/

    Example: hepatocast evaluate --predictions predictions/ --out report/

    Example: hepatocast evaluate --model generator --bundle my_bundle/ --cohort cohort/ --cohort shifted/
    --out report/

    Example: hepatocast evaluate --model dlop-combin --bundle dlop_combin/ --cohort cohort/ --out report/

    Example: hepatocast evaluate --model segmenter --bundle segmenter --data cases/ --liver 1 --liver 2
    --tumour 2 --out report/
    """
    if any((table, public, only, hcc_tace_seg)):
        request = TableRequest(
            file=table,
            time=time,
            event=event,
            left_out=tuple(leave_out or ()),
            public=public_names(public, only or ()),
            hcc_tace_seg=hcc_tace_seg,
            against=tuple(against or ("cox-ridge", "forest")),
            seeds=repeats,
        )
        evaluate_tables(request, out)
        return
    if (model is None) == (predictions is None):
        raise typer.BadParameter(
            "give a folder of predictions, a model, or a table", param_hint="--predictions"
        )
    if predictions is not None:
        evaluate_folder(predictions, draws, seed, subgroup or [], out)
        return
    if model not in ("generator", "segmenter"):
        system = SystemRequest(str(model), bundle, tuple(cohort or ()))
        evaluate_folder(system_predictions(system, out), draws, seed, subgroup or [], out)
        return
    from inference.evaluation.questions import Plan

    if model == "segmenter":
        if data is None:
            raise typer.BadParameter("a segmenter is measured on cases", param_hint="--data")
        from inference.evaluation.segmentation_cases import LabelValues, label_values

        default = LabelValues()
        values = LabelValues(label_values(liver, default.liver), label_values(tumour, default.tumour))
        _show_segmenter(_segmenter(data, bundle, values, modality, seed, out), out)
        return
    if not cohort:
        raise typer.BadParameter("a generator is measured on a prepared cohort", param_hint="--cohort")
    from inference.evaluation.forecasts import Detail

    plan = Plan(
        patients=patients,
        samples=samples,
        image_samples=image_samples,
        image_patients=image_patients,
        counterfactuals=Detail.SCALARS if scalars_only_for_pairs or not image_samples else Detail.IMAGES,
        seed=seed,
    )
    models = [b for b in (bundle, "mechanistic" if mechanistic else None) if b is not None]
    _show_generator(_generator(cohort, list(dict.fromkeys(models)), plan, out, workers, config or []), out)


def _segmenter(
    data: Path, bundle: str | None, values: object, modality: str, seed: int, out: Path
) -> SegmenterReport:
    from inference.evaluation.openers import open_segmenter
    from inference.evaluation.segmentation_cases import LabelValues, find_cases
    from inference.evaluation.segmentation_run import evaluate_segmenter, write_segmenter_evaluation
    from inference.randomness import RandomStreams

    if bundle is None:
        raise typer.BadParameter("name the bundle of the segmenter", param_hint="--bundle")
    if not data.is_dir():
        raise typer.BadParameter("there is no such folder", param_hint="--data")
    assert isinstance(values, LabelValues)
    name, segment_volume = open_segmenter(bundle)
    with progress_bar("evaluation", quiet=False) as progress:
        report = evaluate_segmenter(
            name, segment_volume, find_cases(data, modality), values, RandomStreams(seed), progress
        )
    write_segmenter_evaluation(out, report)
    return report


def _generator(
    cohorts: list[Path], bundles: list[str], plan: object, out: Path, workers: int, config: list[Path]
) -> Evaluation:
    from dicom_node.settings import load_settings
    from inference.bundle_store import describe
    from inference.evaluation.extractors import available_extractor
    from inference.evaluation.forecasts import Forecaster
    from inference.evaluation.generator_evaluation import evaluate_generator
    from inference.evaluation.openers import open_forecasters
    from inference.evaluation.questions import Plan
    from inference.training.cohort import CohortInfo

    assert isinstance(plan, Plan)
    regimens = {r.id: r for r in load_settings(config).regimens}

    def models(info: CohortInfo) -> tuple[Forecaster, ...]:
        return tuple(f for name in bundles for f in open_forecasters(name, info, regimens)[1])

    with progress_bar("evaluation", quiet=False) as progress:
        return evaluate_generator(
            cohorts,
            models,
            describe(bundles[0]).info if bundles else None,
            plan,
            available_extractor() if plan.image_samples else None,
            out,
            workers,
            progress,
        )


def _show_segmenter(report: SegmenterReport, out: Path) -> None:
    from inference.evaluation.generator_output import figure

    typer.echo(f"liver, Dice: {figure(report.means['liver_dice'])}")
    typer.echo(f"tumour, Dice: {figure(report.means['tumour_dice'])}")
    typer.echo(f"tables and pictures are in {out}")


def _show_generator(evaluation: Evaluation, out: Path) -> None:
    from inference.evaluation.generator_output import bar_figure

    verdict = {True: "met", False: "NOT MET", None: "not measured"}
    for report in evaluation.reports:
        typer.echo(f"{report.cohort}, {report.patients} patients")
        for name, bars in report.bars.items():
            for bar in bars:
                typer.echo(f"  {name}: {bar.title}: {bar_figure(bar)} ({bar.limit}: {verdict[bar.met]})")
    typer.echo(f"tables and pictures are in {out}")
