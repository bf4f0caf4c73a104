"""``hepatocast comparison``: compare regimens for patients of a table, and measure the comparison."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dicom_node.cli.terminal import progress_bar

if TYPE_CHECKING:
    from inference.comparison.benchmark import Rate, ScenarioSummary

app = typer.Typer(no_args_is_help=True, help="Compare treatment regimens, and measure the comparison.")

Item = TypeVar("Item")

_BAR_RECOMMENDED_UNDER_NULL, _BAR_PPV, _BAR_SENSITIVITY = 0.02, 0.95, 0.5


@app.callback()
def comparison() -> None:
    """Compare treatment regimens, and measure the comparison."""


@app.command()
def learn(
    table: Annotated[Path, typer.Argument(help="CSV with a row for each treated patient.")],
    out: Annotated[Path, typer.Option(help="Folder of the comparison; made if absent.")],
    covariate: Annotated[
        list[str], typer.Option(help="Column with numbers known before treatment; once for each.")
    ],
    reference: Annotated[str, typer.Option(help="Regimen that the others are held against.")] = "tace",
    regimen_column: Annotated[str, typer.Option(help="Column with the planned regimen.")] = "regimen_id",
    months_column: Annotated[
        str, typer.Option(help="Column with months to death or last contact.")
    ] = "os_months",
    event_column: Annotated[
        str, typer.Option(help="Column with 1 for death, 0 for last contact.")
    ] = "os_event",
    trained_on: Annotated[
        str, typer.Option(help="Of whom: begins with real or simulated.")
    ] = "real: a cohort of this site",
    benefit_months: Annotated[
        float, typer.Option(min=0, help="Longer median survival that the rule asks.")
    ] = 3.0,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.99, help="Confidence that the rule asks.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws of parameters.")] = 0,
) -> None:
    """Learn to compare regimens from patients who were treated with each.

    Take covariates and the regimen as they were known at the start of treatment. A patient who counts under a
    combination because he lived to receive its second part makes that combination look better than it is.

    Example: hepatocast comparison learn patients.csv --covariate age --covariate albumin --out comparison/
    """
    from inference.comparison.confidence import load_confidence_map
    from inference.comparison.learned import learn as learn_comparison
    from inference.comparison.rule import ComparisonRule
    from inference.comparison.stored import save_comparison
    from inference.comparison.table import Columns, read_cohort_table
    from inference.errors import RejectedInput
    from inference.randomness import RandomStreams
    from inference.results import NotAssessed

    columns = Columns(tuple(covariate), regimen_column, months_column, event_column)
    read = read_cohort_table(table, columns, reference)
    rule = ComparisonRule(benefit_months=benefit_months, confidence=confidence)
    draws = RandomStreams(seed).derive("comparison draws")
    learned = learn_comparison(read.cohort, rule, load_confidence_map(), draws)
    if isinstance(learned, NotAssessed):
        raise RejectedInput(learned.detail)
    save_comparison(learned, out, out.resolve().name, trained_on)
    for data in (*learned.regimens, *learned.excluded):
        kept = "" if data in learned.regimens else ", too few: left out"
        typer.echo(f"{data.regimen_id}: {data.patients} patients, {data.events} deaths{kept}")
    if read.left_out:
        typer.echo(f"{read.left_out} rows lack a value and were left out")
    tests = learned.tests
    typer.echo(
        f"regimens differ: p {tests.any_effect_p:.2g} (average effect {tests.average_effect_p:.2g}, "
        f"heterogeneity {tests.heterogeneity_p:.2g}); a recommendation asks {rule.any_effect_p:g} or less"
    )


@app.command()
def patients(
    bundle: Annotated[Path, typer.Argument(help="Folder that `learn` wrote.")],
    table: Annotated[Path, typer.Argument(help="CSV with a row for each patient.")],
    out: Annotated[Path, typer.Option(help="Folder for heat maps and comparisons.json; made if absent.")],
) -> None:
    """Compare the regimens for the patients of a table, and draw a heat map for each.

    Rows are named by their number. Nothing is recommended where the gate refuses; the reasons are written
    beside every heat map.

    Example: hepatocast comparison patients comparison/ new_patients.csv --out compared/
    """
    from dicom_node.comparison_files import write_comparisons

    for line in write_comparisons(bundle, table, out):
        typer.echo(line)


@app.command()
def benchmark(
    replicates: Annotated[int, typer.Option(min=2, help="Cohorts of each scenario.")] = 200,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Names the cohorts; tuning used 100000 and above.")] = 0,
    scenario: Annotated[
        list[str] | None, typer.Option(help="One scenario; several times for more. All by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the figures to this JSON file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure the comparison on simulated cohorts in which every patient's best regimen is known.

    Each cohort has 757 patients under three regimens that were given for a reason; the comparison is learned
    from it and asked about 300 other patients. A recommendation is right when the true median is more than 3
    months longer. Scenarios with a hidden confounder show what no comparison of observed patients can see.

    Example: hepatocast comparison benchmark --replicates 60 --out figures.json
    """
    from inference.comparison.benchmark import scores_of, summarise, tasks_of
    from inference.comparison.benchmark_cohort import benchmark_digest, load_benchmark
    from inference.comparison.confidence import load_confidence_map
    from inference.comparison.rule import ComparisonRule

    known = tuple(load_benchmark().scenarios)
    unknown = sorted(set(scenario or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"choose among {', '.join(known)}", param_hint="--scenario")
    rule = ComparisonRule()
    tasks = tasks_of(scenario or known, replicates, seed, rule, load_confidence_map())
    scores = _counted(scores_of(tasks, workers), len(tasks), quiet=quiet)
    summaries = summarise(scores)
    typer.echo(_table(summaries))
    if out is not None:
        figures = {
            "generator_sha256": benchmark_digest(),
            "seed": seed,
            "rule": rule.model_dump(),
            "scenarios": [asdict(summary) for summary in summaries],
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


@app.command()
def calibrate(
    out: Annotated[Path, typer.Option(help="File for the map, as confidence.yaml of the package.")],
    replicates: Annotated[int, typer.Option(min=2, help="Cohorts of each scenario learned from.")] = 100,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(min=100_000, help="Smaller seeds are kept for reporting.")] = 100_000,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Learn how often a benefit is real for which share of draws: the map behind every confidence.

    Needed again only when the survival model of the comparison changes.

    Example: hepatocast comparison calibrate --out confidence.yaml
    """
    from inference.comparison.benchmark import (
        confidences_of,
        learned_map,
        tuning_tasks,
    )
    from inference.comparison.confidence import write_confidence_map
    from inference.comparison.rule import ComparisonRule

    tasks = tuning_tasks(replicates, seed, ComparisonRule())
    pairs = _counted(confidences_of(tasks, workers), len(tasks), quiet=quiet)
    write_confidence_map(
        learned_map(pairs), out, f"{replicates} replicates of each learned scenario, seed {seed}"
    )
    typer.echo(f"the map is in {out}")


def _counted(items: Iterable[Item], number: int, *, quiet: bool) -> list[Item]:
    found: list[Item] = []
    with progress_bar("Comparing", quiet=quiet) as report:
        for item in items:
            found.append(item)
            report(f"{len(found)} of {number} cohorts", len(found) / number)
    return found


# ------------------------------------------------------------------ the table


_COLUMNS: tuple[tuple[str, Callable[[ScenarioSummary], Rate]], ...] = (
    ("gate passed", lambda s: s.passed),
    ("positives", lambda s: s.positives),
    ("recommended", lambda s: s.recommended),
    ("PPV", lambda s: s.ppv),
    ("sensitivity", lambda s: s.sensitivity),
    ("harmed", lambda s: s.harmful),
    ("bare rule", lambda s: s.bare_recommended),
    ("its PPV", lambda s: s.bare_ppv),
    ("coverage", lambda s: s.coverage),
)


def _table(summaries: Sequence[ScenarioSummary]) -> str:
    heads = [name for name, _ in _COLUMNS]
    lines = ["  ".join([f"{'scenario, % (standard error)':<32}", *(f"{head:>12}" for head in heads)])]
    for summary in summaries:
        cells = [_percent(rate(summary)) for _, rate in _COLUMNS]
        lines.append("  ".join([f"{summary.scenario:<32}", *(f"{cell:>12}" for cell in cells)]))
    lines += _bars(summaries)
    lines.append(
        "A confounder that is in no table cannot be detected: read the rows with a hidden confounder as what "
        "would happen if one had been overlooked."
    )
    return "\n".join(lines)


def _percent(rate: Rate) -> str:
    if rate.estimate is None:
        return "-"
    if rate.standard_error is None:
        return f"{100 * rate.estimate:.1f}"
    return f"{100 * rate.estimate:.1f} ({100 * rate.standard_error:.1f})"


def _bars(summaries: Sequence[ScenarioSummary]) -> list[str]:
    """Hold the figures against what was asked of them."""
    by_name = {summary.scenario: summary for summary in summaries}
    asked = (
        ("no_difference", "recommended", "at most", _BAR_RECOMMENDED_UNDER_NULL),
        ("heterogeneous", "ppv", "at least", _BAR_PPV),
        ("heterogeneous", "sensitivity", "at least", _BAR_SENSITIVITY),
    )
    lines = []
    for name, field, words, limit in asked:
        rate: Rate | None = getattr(by_name[name], field) if name in by_name else None
        if rate is not None and rate.estimate is not None:
            holds = rate.estimate <= limit if words == "at most" else rate.estimate >= limit
            lines.append(
                f"{name}, {field}: {100 * rate.estimate:.1f} %, asked {words} {100 * limit:g} %: "
                f"{'reached' if holds else 'NOT REACHED'}"
            )
    return lines
