"""The part of the report on one survival end point in one set of patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.predictions.models import Role
from inference.evaluation.report.blocks import Block, Section, Table, Words, even_widths
from inference.evaluation.report.curves import OWN_CUT
from inference.evaluation.report.end_point import ArmsResult, EndPointResult, ModelResult, Pair
from inference.evaluation.report.evaluation import Evaluation, SetResult
from inference.evaluation.report.pictures import (
    Titles,
    arms_picture,
    calibration_pictures,
    decision_picture,
    discrimination_picture,
    groups_pictures,
)
from inference.evaluation.report.sampled import NotComputed
from inference.evaluation.report.subgroups import SubgroupResult
from inference.evaluation.report.survival_measures import AT_HORIZON, OVER_TIME, Measure
from inference.evaluation.report.words import (
    ARM_TITLES,
    capital,
    end_point_name,
    figure,
    months,
    number,
    p_value,
    set_name,
)

_MODELS_A_TABLE = 4
_COMPARED = ("harrell_c", "uno_c", "ibs")
_COMPARED_AT = ("auc", "brier", "ici")


def titles_of(evaluation: Evaluation) -> dict[str, str]:
    """Return what people call each model, and from when it is measured where that is a landmark."""
    return {
        m.entry.name: m.entry.title
        + (f" (from month {m.entry.landmark_months:g})" if m.entry.landmark_months else "")
        for m in evaluation.predictions.models
    }


def survival_section(evaluation: Evaluation, chosen: SetResult, result: EndPointResult) -> Section:
    """Return tables and pictures of one end point."""
    title = f"{capital(end_point_name(result.end_point))}, {set_name(chosen.name)} patients"
    return Section(title, tuple(_blocks(evaluation, result)))


def _blocks(evaluation: Evaluation, result: EndPointResult) -> Iterator[Block]:
    titles = titles_of(evaluation)
    yield Words(_who(result))
    yield discrimination_picture(result, titles)
    for models in _portions(result.models):
        yield _measures_table(result, models, titles)
    yield from _differences_tables(evaluation, result, titles)
    yield from calibration_pictures(result, titles)
    yield _d_calibration_table(result, titles)
    yield decision_picture(result, evaluation.plan, titles)
    yield from groups_pictures(result, titles)
    yield _groups_table(result, titles)
    yield from _arms_blocks(result)
    for models in _portions(result.models):
        yield from _subgroup_table(models, titles)


def _who(result: EndPointResult) -> str:
    followed = ", ".join(f"{n} to {h:g} months" for h, n in result.followed.items())
    text = f"{result.patients} patients, {result.events} events; followed: {followed}."
    if not isinstance(result.follow_up, NotComputed):
        text += f" Median follow-up by reverse Kaplan-Meier: {months(result.follow_up.value)}."
    if result.unknown:
        text += f" {result.unknown} patients without known follow-up are left out."
    grid = result.scale.grid
    if len(grid):
        text += f" Scores over time are of {len(grid)} times from {grid[0]:g} to {grid[-1]:g} months."
    return text


def _portions(models: Sequence[ModelResult]) -> Iterator[Sequence[ModelResult]]:
    for first in range(0, len(models), _MODELS_A_TABLE):
        yield models[first : first + _MODELS_A_TABLE]


# ------------------------------------------------------------------ measures


def _measures_table(result: EndPointResult, models: Sequence[ModelResult], titles: Titles) -> Table:
    rows = [_row(m, m.title, m.key, models) for group in OVER_TIME for m in group.measures]
    for horizon in result.followed:
        rows += [
            _row(m, f"{m.title}, {horizon:g} months", f"{m.key}@{horizon:g}", models)
            for group in AT_HORIZON
            for m in group.measures
        ]
    heads = tuple(f"{titles[m.model]} (n {m.patients}, {m.events} events)" for m in models)
    return Table(
        "All measures with 95 % intervals",
        ("Measure", "Better", *heads),
        tuple(rows),
        (28, 10, *even_widths(38, len(models))[1:]),
        "A dash: not computed; the reason is in the list at the end.",
    )


def _row(measure: Measure, title: str, key: str, models: Sequence[ModelResult]) -> tuple[str, ...]:
    return (title, str(measure.better), *(figure(m.figures[key]) for m in models))


def _differences_tables(evaluation: Evaluation, result: EndPointResult, titles: Titles) -> Iterator[Block]:
    reference = next(
        (m.entry.name for m in evaluation.predictions.models if m.entry.role is Role.REFERENCE), None
    )
    pairs = [p for p in result.pairs if reference is None or reference in (p.first, p.second)]
    if not pairs:
        return
    keys = [*_COMPARED, *(f"{k}@{h:g}" for h in result.followed for k in _COMPARED_AT)]
    names = _names(result)
    for first in range(0, len(pairs), _MODELS_A_TABLE):
        shown = [_ordered(p, reference) for p in pairs[first : first + _MODELS_A_TABLE]]
        heads = tuple(f"{titles[a]} less {titles[b]}" for a, b, _ in shown)
        rows = tuple((names[k], *(figure(found[k]) for _, _, found in shown)) for k in keys)
        yield Table(
            "Paired differences",
            ("Measure", *heads),
            rows,
            even_widths(28, len(shown)),
            "Both models on the same draws of the same patients. metrics.json has all pairs.",
        )


def _names(result: EndPointResult) -> dict[str, str]:
    found = {m.key: m.title for group in OVER_TIME for m in group.measures}
    for horizon in result.followed:
        found |= {
            f"{m.key}@{horizon:g}": f"{m.title}, {horizon:g} months"
            for group in AT_HORIZON
            for m in group.measures
        }
    return found


def _ordered(pair: Pair, reference: str | None) -> tuple[str, str, dict[str, Estimate | NotComputed]]:
    """Return a pair as (model, reference, differences), whichever way it was computed."""
    if pair.first != reference:
        return pair.first, pair.second, dict(pair.differences)
    return pair.second, pair.first, {k: _turned(d) for k, d in pair.differences.items()}


def _turned(found: Estimate | NotComputed) -> Estimate | NotComputed:
    if isinstance(found, NotComputed):
        return found
    return Estimate(-found.value, -found.upper, -found.lower, found.n)


def _d_calibration_table(result: EndPointResult, titles: Titles) -> Table:
    rows = []
    for model in result.models:
        found = model.d_calibration
        if isinstance(found, NotComputed):
            rows.append((titles[model.model], "-", "-", found.reason))
        else:
            verdict = "no sign against calibration" if found.p >= 0.05 else "not calibrated"
            rows.append((titles[model.model], f"{found.statistic:.1f}", p_value(found.p), verdict))
    return Table(
        "D-calibration: whole curves",
        ("Model", "Chi-square, 9 degrees", "p", ""),
        tuple(rows),
        (34, 20, 12, 34),
        "A large p is no proof of calibration; with many censored patients the test finds little.",
    )


# ------------------------------------------------------------------ groups


def _groups_table(result: EndPointResult, titles: Titles) -> Table:
    rows: list[tuple[str, ...]] = []
    for model in result.models:
        found = model.risk_groups
        if isinstance(found, NotComputed):
            rows.append((titles[model.model], "-", "-", "-", found.reason))
            continue
        test = "-" if isinstance(found.test, NotComputed) else f"p {p_value(found.test.p)}"
        for group in found.groups:
            median = group.curve.median
            limits = f"{months(median.value)} ({number(median.lower)} to {number(median.upper)})"
            counts = f"{group.patients}, {group.events} events"
            rows.append((titles[model.model], group.name, counts, limits, test))
    cuts = [m.risk_groups.cut_from for m in result.models if not isinstance(m.risk_groups, NotComputed)]
    drawn = next((source for source in cuts if source != OWN_CUT), None)
    source = "" if drawn is None else f"Cut points are quantiles of the risks of {drawn}. "
    source += "".join(f"{name}: {OWN_CUT}. " for name in _own_cuts(result, titles))
    return Table(
        "Risk groups",
        ("Model", "Risk", "Patients", "Median (95 % limits)", "Log-rank"),
        tuple(rows),
        (28, 14, 20, 26, 12),
        source + "A dash among limits: not reached.",
    )


def _own_cuts(result: EndPointResult, titles: Titles) -> Iterator[str]:
    for model in result.models:
        if not isinstance(model.risk_groups, NotComputed) and model.risk_groups.cut_from == OWN_CUT:
            yield titles[model.model]


# ------------------------------------------------------------------ arms


def _arms_blocks(result: EndPointResult) -> Iterator[Block]:
    arms = result.arms
    if isinstance(arms, NotComputed):
        yield Words(f"Arms of the protocol: {arms.reason}.")
        return
    yield Words(_arms_words(arms))
    keys = [*_COMPARED, *(f"{k}@{h:g}" for h in result.followed for k in _COMPARED_AT)]
    names = _names(result)
    yield Table(
        "Arms of the protocol",
        ("Measure", *(ARM_TITLES[a] for a in arms.figures)),
        tuple((names[k], *(figure(f[k]) for f in arms.figures.values())) for k in keys),
        even_widths(28, len(arms.figures)),
    )
    yield Table(
        "Arms of the protocol: paired differences",
        ("Measure", *(f"{ARM_TITLES[a]} less {ARM_TITLES[b].lower()}" for a, b in arms.differences)),
        tuple((names[k], *(figure(d[k]) for d in arms.differences.values())) for k in keys),
        even_widths(22, len(arms.differences)),
    )
    yield arms_picture(arms, "harrell_c", "Harrell's C")


def _arms_words(arms: ArmsResult) -> str:
    text = f"Arms of the protocol, all on the same {arms.patients} patients with {arms.events} events."
    if arms.start:
        text += (
            f" Real follow-up images are of month {arms.start:g}: all arms are measured from then on, on "
            "patients without the event before, so that no arm gains from having lived to be imaged; "
            "survival of the other arms is that given survival to the landmark."
        )
    return text


# ------------------------------------------------------------------ subgroups


def _subgroup_table(models: Sequence[ModelResult], titles: Titles) -> Iterator[Block]:
    if not any(m.subgroups for m in models):
        return
    first = models[0].subgroups
    rows = []
    for group in first:
        cells = [cell for m in models for cell in _subgroup_cells(m, group)]
        rows.append((f"{group.column}: {group.name}", f"{group.patients}, {group.events}", *cells))
    heads = tuple(head for m in models for head in (f"{titles[m.model]}: C", "Observed less predicted"))
    horizon = first[0].horizon
    yield Table(
        "Subgroups and fairness",
        ("Subgroup", "Patients, events", *heads),
        tuple(rows),
        (18, 10, *even_widths(28, len(heads))[1:]),
        f"Observed less predicted is the risk up to {horizon:g} months. An asterisk: C differs from that of "
        "all other patients, or calibration from 0, by more than the interval; among many subgroups some do "
        "by chance. A dash: too few events or too few patients followed.",
    )


def _subgroup_cells(model: ModelResult, like: SubgroupResult) -> tuple[str, str]:
    found = next((g for g in model.subgroups if (g.column, g.name) == (like.column, like.name)), None)
    if found is None:
        return "-", "-"
    gap = found.observed_less_predicted
    calibration = figure(gap)
    if not isinstance(gap, NotComputed) and _away(gap.estimate):
        calibration += " *"
    concordance = figure(found.concordance)
    if isinstance(found.less_rest, Estimate) and _away(found.less_rest):
        concordance += " *"
    return concordance, calibration


def _away(found: Estimate) -> bool:
    return found.lower > 0 or found.upper < 0
