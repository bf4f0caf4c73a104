"""What the evaluation itself can say to items of the reporting checklist; each text is from the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.predictions.models import Role
from inference.evaluation.predictions.patients import RESPONSE, SURVIVAL_END_POINTS, TRAIN
from inference.evaluation.report.characteristics import Characteristic
from inference.evaluation.report.development_size import DevelopmentSize
from inference.evaluation.report.end_point import EndPointResult
from inference.evaluation.report.evaluation import LIMITS, Evaluation
from inference.evaluation.report.response import ResponseResult
from inference.evaluation.report.sampled import NotComputed, Sampled
from inference.evaluation.report.words import end_point_name, figure, months, set_name

_LARGE_DIFFERENCE = 0.1


def _titles(evaluation: Evaluation) -> str:
    return ", ".join(m.entry.title for m in evaluation.predictions.models)


def _end_points(evaluation: Evaluation) -> list[str]:
    return [p for p in (*SURVIVAL_END_POINTS, RESPONSE) if evaluation.predictions.of(p)]


def _results(evaluation: Evaluation) -> Iterator[tuple[str, EndPointResult]]:
    for chosen in evaluation.sets:
        for result in chosen.end_points.values():
            if isinstance(result, EndPointResult):
                yield chosen.name, result


def _title(evaluation: Evaluation) -> str:
    return f"{evaluation.predictions.study.title}."


def _abstract(evaluation: Evaluation) -> str:
    sets = ", ".join(f"{set_name(s.name)} (n {s.patients})" for s in evaluation.sets)
    ends = ", ".join(end_point_name(p) for p in _end_points(evaluation))
    return f"{len(evaluation.predictions.models)} models of {ends} measured in {sets}. " + _performance(
        evaluation
    )


def _objectives(evaluation: Evaluation) -> str:
    reference = [m.entry.title for m in evaluation.predictions.models if m.entry.role is Role.REFERENCE]
    beside = f" beside the reference {reference[0]}" if reference else ""
    ends = ", ".join(end_point_name(p) for p in _end_points(evaluation))
    return f"Evaluation of predictions of {ends} by {_titles(evaluation)}{beside}."


def _sources(evaluation: Evaluation) -> str:
    return "; ".join(
        f"{set_name(s.name)}: {s.patients} patients of {len(s.centres)} centres"
        for s in evaluation.patients.splits
    )


def _centres(evaluation: Evaluation) -> str:
    return "; ".join(
        f"{set_name(s.name)}: " + ", ".join(f"{c} {n}" for c, n in s.centres.items())
        for s in evaluation.patients.splits
    )


def _follow_up(evaluation: Evaluation) -> str:
    texts = []
    for name, result in _results(evaluation):
        if not isinstance(result.follow_up, NotComputed):
            median = months(result.follow_up.value)
            texts.append(f"{set_name(name)}, {end_point_name(result.end_point)}: median follow-up {median}")
    return "; ".join(texts)


def _treatments(evaluation: Evaluation) -> str:
    return "; ".join(
        f"{set_name(s.name)}: " + ", ".join(f"{r} {n}" for r, n in s.regimens.items())
        for s in evaluation.patients.splits
    )


def _preparation(evaluation: Evaluation) -> str:
    return (
        f"Predictions were read from files with sha256 {evaluation.predictions.digest} and checked: each "
        "patient once and predicted by every model, probabilities within 0 and 1, survival that never rises."
    )


def _outcome(evaluation: Evaluation) -> str:
    horizons = ", ".join(f"{h:g}" for h in evaluation.plan.horizons)
    ends = ", ".join(end_point_name(p) for p in _end_points(evaluation))
    return f"{ends}; months are counted from the start of treatment; horizons {horizons} months."


def _predictors(evaluation: Evaluation) -> str:
    named = [m.entry for m in evaluation.predictions.models if m.entry.predictors]
    return "; ".join(f"{e.title}: {', '.join(e.predictors)}" for e in named)


def _predictor_times(evaluation: Evaluation) -> str:
    late = [m.entry for m in evaluation.predictions.models if m.entry.landmark_months]
    told = [
        f"{e.title} uses images of {months(e.landmark_months)} and is measured from then on" for e in late
    ]
    return "; ".join([*told, "all others are declared to use only what is known before treatment"]) + "."


def _sample_size(evaluation: Evaluation) -> str:
    sizes = [s for s in evaluation.sizes.values() if isinstance(s, DevelopmentSize)]
    texts = [
        f"{_title_of(evaluation, s.model)}, {end_point_name(s.end_point)}: {s.patients} patients with "
        f"{s.events} events were used in development, {s.needed.patients} are needed for {s.parameters} "
        "parameters"
        for s in sizes
    ]
    counted = f"An analysis of evaluation needs {evaluation.plan.fewest_events} events, else it is refused."
    return ". ".join([*texts, counted])


def _title_of(evaluation: Evaluation, name: str) -> str:
    return next(m.entry.title for m in evaluation.predictions.models if m.entry.name == name)


def _missing(evaluation: Evaluation) -> str:
    by_column: dict[str, int] = {}
    for row in evaluation.patients.rows:
        by_column[row.column] = sum(row.missing)
    total = sum(s.patients for s in evaluation.patients.splits)
    found = [f"{name} {n} of {total}" for name, n in by_column.items() if n]
    unknown = [
        f"{end_point_name(p)} {s.patients - s.known[p]} in {set_name(s.name)}"
        for s in evaluation.patients.splits
        for p in _end_points(evaluation)
        if s.known[p] < s.patients
    ]
    columns = "Missing baseline values: " + (", ".join(found) or "none") + "."
    outcomes = " Outcomes not known, left out of that end point: " + (", ".join(unknown) or "none") + "."
    return columns + outcomes


def _partition(evaluation: Evaluation) -> str:
    return "; ".join(f"{set_name(s.name)} {s.patients}" for s in evaluation.patients.splits) + " patients."


def _model_types(evaluation: Evaluation) -> str:
    told = [m.entry for m in evaluation.predictions.models if m.entry.kind or m.entry.trained_on]
    return "; ".join(f"{e.title}: {', '.join(part for part in (e.kind, e.trained_on) if part)}" for e in told)


def _heterogeneity_methods(_: Evaluation) -> str:
    return "Every measure is taken in each set, and Harrell's C and calibration in each centre and subgroup."


def _measures(evaluation: Evaluation) -> str:
    return (
        "Harrell's and Uno's C, AUC, Brier score, integrated Brier score, calibration (ICI, E50, E90, slope, "
        "in the large, curve with density, quintiles), D-calibration, net benefit and Nagelkerke's R2 of "
        "survival; AUC, Brier score and classification of response. Intervals and paired differences are "
        f"from one matrix of {evaluation.plan.draws} draws of a bootstrap; areas for response also by DeLong."
    )


def _updating(_: Evaluation) -> str:
    return "No model was updated or recalibrated in this evaluation."


def _computing(evaluation: Evaluation) -> str:
    hashes = [
        f"{m.entry.title} {m.entry.sha256[:16]}" for m in evaluation.predictions.models if m.entry.sha256
    ]
    weights = f" sha256 of weights: {', '.join(hashes)}." if hashes else ""
    return "Predictions were taken from the files of each model as they are." + weights


def _imbalance(evaluation: Evaluation) -> str:
    texts = []
    for s in evaluation.patients.splits:
        rates = [
            f"{end_point_name(p)} {s.events[p]} of {s.known[p]}"
            for p in _end_points(evaluation)
            if s.known[p]
        ]
        texts.append(f"{set_name(s.name)}: {', '.join(rates)}")
    return "Events: " + "; ".join(texts) + ". No resampling or weighting was done in this evaluation."


def _fairness_methods(evaluation: Evaluation) -> str:
    columns = sorted({g.column for _, r in _results(evaluation) for m in r.models for g in m.subgroups})
    if not columns:
        return ""
    return f"Harrell's C, its difference from all other patients, and calibration, by {', '.join(columns)}."


def _outputs(evaluation: Evaluation) -> str:
    horizons = ", ".join(f"{h:g}" for h in evaluation.plan.horizons)
    return (
        f"Risk, survival at {horizons} months and probability of response. Risk groups are "
        f"{evaluation.plan.risk_groups} groups of equal size among validation patients, or by a model's own "
        "cut point where it has one; the threshold of response is by Youden's index of validation patients."
    )


def _set_differences(evaluation: Evaluation) -> str:
    names = [s.name for s in evaluation.patients.splits]
    if TRAIN not in names:
        return ""
    texts = []
    for k, name in enumerate(names):
        if name == TRAIN:
            continue
        large = [_named(r, d) for r in evaluation.patients.rows if (d := _difference(r, k)) is not None]
        texts.append(f"{set_name(name)}: {', '.join(large) or 'none'}")
    return f"Standardised differences from training above {_LARGE_DIFFERENCE:g}: " + "; ".join(texts) + "."


def _difference(row: Characteristic, split: int) -> float | None:
    found = row.cells[split].difference
    return found if found is not None and abs(found) > _LARGE_DIFFERENCE else None


def _named(row: Characteristic, difference: float) -> str:
    return f"{row.column} {row.value}".strip() + f" {difference:+.2f}"


def _data_digest(evaluation: Evaluation) -> str:
    return f"sha256 of the predictions and outcomes: {evaluation.predictions.digest}."


def _code(_: Evaluation) -> str:
    return (
        "The analysis is the command `hepatocast evaluate --predictions` of Hepatocast, which is open source."
    )


def _flow(evaluation: Evaluation) -> str:
    return "; ".join(
        f"{set_name(s.name)} {s.patients}, of whom "
        + ", ".join(
            f"{s.known[p]} with known {end_point_name(p)} ({s.events[p]} events)"
            for p in _end_points(evaluation)
        )
        for s in evaluation.patients.splits
    )


def _characteristics(evaluation: Evaluation) -> str:
    if not evaluation.patients.rows:
        return ""
    return f"Table of patients: {len({r.column for r in evaluation.patients.rows})} columns by set."


def _numbers(evaluation: Evaluation) -> str:
    return "; ".join(
        f"{set_name(name)}, {end_point_name(r.end_point)}: "
        + ", ".join(
            f"{_title_of(evaluation, m.model)} {m.patients} patients, {m.events} events" for m in r.models
        )
        for name, r in _results(evaluation)
    )


def _specification(evaluation: Evaluation) -> str:
    hashes = [f"{m.entry.title} {m.entry.sha256}" for m in evaluation.predictions.models if m.entry.sha256]
    return f"sha256 of weights: {', '.join(hashes)}." if hashes else ""


def _performance(evaluation: Evaluation) -> str:
    texts = []
    for name, result in _results(evaluation):
        found = [
            f"{_title_of(evaluation, m.model)} {figure(m.figures['harrell_c'])}"
            for m in result.models
            if isinstance(m.figures["harrell_c"], Sampled)
        ]
        if found:
            texts.append(f"C, {end_point_name(result.end_point)}, {set_name(name)}: " + ", ".join(found))
    return "; ".join(texts) + ("." if texts else "")


def _heterogeneity(evaluation: Evaluation) -> str:
    texts = []
    for name, result in _results(evaluation):
        for model in result.models:
            by_centre = {
                g.name: g.concordance
                for g in model.subgroups
                if g.column == "centre" and isinstance(g.concordance, Sampled)
            }
            if len(by_centre) > 1:
                values = _range({c: f.estimate for c, f in by_centre.items()})
                title = _title_of(evaluation, model.model)
                texts.append(f"{title}, {end_point_name(result.end_point)}, {set_name(name)}: {values}")
    return "C by centre: " + "; ".join(texts) + "." if texts else ""


def _range(found: Mapping[str, Estimate]) -> str:
    low, high = (pick(found, key=lambda c: found[c].value) for pick in (min, max))
    return f"{found[low].value:.2f} ({low}) to {found[high].value:.2f} ({high})"


def _limits(_: Evaluation) -> str:
    return " ".join(LIMITS)


def _poor_input(_: Evaluation) -> str:
    return (
        "A prediction that is missing, no probability or rises over time ends the evaluation. A figure that "
        "cannot be computed is shown with the reason."
    )


def _pseudonyms(_: Evaluation) -> str:
    return "The evaluation reads pseudonyms only, and its outputs name no patient."


def _partition_level(_: Evaluation) -> str:
    return "Patient: each patient is in one set."


def _sets(evaluation: Evaluation) -> str:
    return "; ".join(f"{set_name(s.name)}, {s.patients} patients" for s in evaluation.sets)


def _comparison(evaluation: Evaluation) -> str:
    reference = [m.entry.title for m in evaluation.predictions.models if m.entry.role is Role.REFERENCE]
    return f"All models beside {reference[0]}, with paired differences." if reference else ""


def _utility(evaluation: Evaluation) -> str:
    if not any(isinstance(s.response, ResponseResult) or s.end_points for s in evaluation.sets):
        return ""
    return "Decision curves: net benefit of each model beside treating everybody and nobody."


TEXTS: Mapping[str, Callable[[Evaluation], str]] = {
    "title": _title,
    "abstract": _abstract,
    "objectives": _objectives,
    "sources": _sources,
    "follow_up": _follow_up,
    "centres": _centres,
    "treatments": _treatments,
    "preparation": _preparation,
    "outcome": _outcome,
    "predictors": _predictors,
    "predictor_times": _predictor_times,
    "sample_size": _sample_size,
    "missing": _missing,
    "partition": _partition,
    "model_types": _model_types,
    "heterogeneity_methods": _heterogeneity_methods,
    "measures": _measures,
    "updating": _updating,
    "computing": _computing,
    "imbalance": _imbalance,
    "fairness_methods": _fairness_methods,
    "outputs": _outputs,
    "set_differences": _set_differences,
    "data_digest": _data_digest,
    "code": _code,
    "flow": _flow,
    "characteristics": _characteristics,
    "numbers": _numbers,
    "specification": _specification,
    "performance": _performance,
    "heterogeneity": _heterogeneity,
    "limits": _limits,
    "poor_input": _poor_input,
    "pseudonyms": _pseudonyms,
    "partition_level": _partition_level,
    "sets": _sets,
    "comparison": _comparison,
    "utility": _utility,
}
"""What each `fill` of ``reporting_checklist.yaml`` stands for; an empty text leaves the item to a person."""
