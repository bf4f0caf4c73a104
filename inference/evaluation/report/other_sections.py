"""The parts of the report that are not of one survival end point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from inference.evaluation.predictions.patients import RESPONSE, SURVIVAL_END_POINTS
from inference.evaluation.report.blocks import Block, Points, Section, Table, Words, even_widths
from inference.evaluation.report.characteristics import Characteristic, Quartiles, Share
from inference.evaluation.report.checklist import FilledItem, State
from inference.evaluation.report.development_size import DevelopmentSize
from inference.evaluation.report.end_point import EndPointResult
from inference.evaluation.report.evaluation import LIMITS, Evaluation, SetResult
from inference.evaluation.report.pictures import response_picture
from inference.evaluation.report.plain_figures import Gap
from inference.evaluation.report.published import WHY_NOT_COMPARED, published_results
from inference.evaluation.report.response import CLASSIFICATION, PROBABILITY, ResponseResult
from inference.evaluation.report.sampled import NotComputed
from inference.evaluation.report.survival_section import titles_of
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

_GAPS_SHOWN = 6


# ------------------------------------------------------------------ first page


def summary_section(evaluation: Evaluation) -> Section:
    """Return the main figures of all sets."""
    return Section("In short", tuple(_summary(evaluation)))


def _summary(evaluation: Evaluation) -> Iterator[Block]:
    for chosen in evaluation.sets:
        for result in chosen.end_points.values():
            if isinstance(result, EndPointResult):
                yield _summary_table(evaluation, chosen, result)
            else:
                yield Words(f"{capital(set_name(chosen.name))}: {result.reason}.")
        if isinstance(chosen.response, ResponseResult):
            yield _response_summary(evaluation, chosen, chosen.response)
    yield Words(
        "Brackets are 95 % bootstrap intervals over patients. C and AUC: 0.5 is chance, 1 is perfect. Brier "
        "scores and ICI (mean distance of predicted from observed risk): 0 is perfect."
    )


def _summary_table(evaluation: Evaluation, chosen: SetResult, result: EndPointResult) -> Table:
    titles = titles_of(evaluation)
    middle = evaluation.plan.horizons[len(evaluation.plan.horizons) // 2]
    keys = ("harrell_c", f"auc@{middle:g}", "ibs", f"ici@{middle:g}")
    rows = tuple(
        (titles[m.model], str(m.patients), str(m.events), *(figure(m.figures[k]) for k in keys))
        for m in result.models
    )
    return Table(
        f"{capital(end_point_name(result.end_point))}, {set_name(chosen.name)} patients",
        (
            "Model",
            "n",
            "Events",
            "C",
            f"AUC, {middle:g} months",
            "Integrated Brier",
            f"ICI, {middle:g} months",
        ),
        rows,
        (24, 6, 8, 16, 16, 16, 16),
    )


def _response_summary(evaluation: Evaluation, chosen: SetResult, result: ResponseResult) -> Table:
    titles = titles_of(evaluation)
    keys = ("auc", "brier", "accuracy", "f1")
    rows = tuple((titles[m.model], *(figure(m.figures[k]) for k in keys)) for m in result.models)
    return Table(
        f"Objective response, {set_name(chosen.name)} patients ({result.responders} of {result.patients})",
        ("Model", "AUC", "Brier score", "Accuracy", "F1"),
        rows,
        even_widths(30, 4),
    )


# ------------------------------------------------------------------ models and patients


def models_section(evaluation: Evaluation) -> Section:
    """Return what each model says of itself."""
    rows = tuple(
        (
            m.entry.title,
            ARM_TITLES[m.entry.arm],
            str(m.entry.role),
            ", ".join(str(p).upper() if p != RESPONSE else "response" for p in m.entry.end_points),
            months(m.entry.landmark_months) if m.entry.landmark_months else "baseline",
            m.entry.kind or "-",
            m.entry.trained_on or "-",
        )
        for m in evaluation.predictions.models
    )
    table = Table(
        "",
        ("Model", "Arm", "Role", "Predicts", "Knows until", "Type", "Trained on"),
        rows,
        (18, 18, 10, 14, 12, 14, 14),
    )
    return Section("Models", (table,))


def patients_section(evaluation: Evaluation) -> Section:
    """Return the flow of patients and who they are."""
    counts = evaluation.patients.splits
    ends = [p for p in (*SURVIVAL_END_POINTS, RESPONSE) if evaluation.predictions.of(p)]
    flow = tuple(
        (
            capital(set_name(s.name)),
            str(s.patients),
            ", ".join(f"{c} {n}" for c, n in s.centres.items()),
            ", ".join(f"{r} {n}" for r, n in s.regimens.items()),
            *(f"{s.events[p]} of {s.known[p]}" for p in ends),
        )
        for s in counts
    )
    heads = (
        "Set",
        "Patients",
        "Centres",
        "Regimens",
        *(f"{capital(end_point_name(p))}: events" for p in ends),
    )
    blocks: list[Block] = [
        Table("Flow of patients", heads, flow, (12, 8, 22, 22, *even_widths(64, len(ends))[1:]))
    ]
    if evaluation.patients.rows:
        rows = tuple(_characteristic(r) for r in evaluation.patients.rows)
        blocks.append(
            Table(
                "Baseline",
                ("", *(f"{capital(set_name(s.name))} (n {s.patients})" for s in counts)),
                rows,
                even_widths(24, len(counts)),
                "Median (quartiles), or patients (share of the known). d: standardised difference from "
                "training; above 0.1 it is usually looked at. Missing values are counted apart.",
            )
        )
    return Section("Patients", tuple(blocks))


def _characteristic(row: Characteristic) -> tuple[str, ...]:
    name = f"{row.column}: {row.value}" if row.value else row.column
    return (name, *(_cell(c, m) for c, m in zip(row.cells, row.missing, strict=True)))


def _cell(found: Share | Quartiles, missing: int) -> str:
    if found.of == 0:
        return f"none, missing {missing}"
    if isinstance(found, Share):
        text = f"{found.patients} ({found.patients / found.of:.0%})"
    else:
        text = f"{found.median:.4g} ({found.lower:.4g} to {found.upper:.4g})"
    if found.difference is not None and found.difference != 0:
        text += f", d {found.difference:+.2f}"
    return text + (f", missing {missing}" if missing else "")


# ------------------------------------------------------------------ response


def response_section(evaluation: Evaluation, chosen: SetResult, result: ResponseResult) -> Section:
    """Return tables and pictures of response."""
    titles = titles_of(evaluation)
    text = f"{result.patients} patients who can be evaluated, {result.responders} responded."
    if result.unknown:
        text += f" {result.unknown} cannot be evaluated and are left out."
    thresholds = tuple(
        m.threshold.reason if isinstance(m.threshold, NotComputed) else number(m.threshold.value)
        for m in result.models
    )
    rows = [
        (m.title, *(figure(r.figures[m.key]) for r in result.models)) for m in (*PROBABILITY, *CLASSIFICATION)
    ]
    table = Table(
        "All measures with 95 % intervals",
        ("Measure", *(titles[m.model] for m in result.models)),
        (*rows, ("Threshold", *thresholds)),
        even_widths(28, len(result.models)),
        "The threshold of classification is by Youden's index of validation patients.",
    )
    blocks: list[Block] = [Words(text), table, response_picture(result, evaluation.plan, titles)]
    if result.pairs:
        blocks.append(_delong_table(result, evaluation))
    return Section(f"Objective response, {set_name(chosen.name)} patients", tuple(blocks))


def _delong_table(result: ResponseResult, evaluation: Evaluation) -> Table:
    titles = titles_of(evaluation)
    rows = []
    for pair in result.pairs:
        name = f"{titles[pair.first]} less {titles[pair.second]}"
        found = pair.delong
        if isinstance(found, NotComputed):
            rows.append((name, figure(pair.differences["auc"]), "-", found.reason))
        else:
            limits = f"{number(found.difference)} ({number(found.lower)} to {number(found.upper)})"
            rows.append((name, figure(pair.differences["auc"]), limits, p_value(found.p)))
    return Table(
        "Differences of AUC",
        ("Models", "Paired bootstrap", "DeLong", "p"),
        tuple(rows),
        (40, 25, 25, 10),
    )


# ------------------------------------------------------------------ the rest


def size_section(evaluation: Evaluation) -> Section:
    """Return whether development had enough patients."""
    titles = titles_of(evaluation)
    rows, refused = [], []
    for (name, end_point), size in evaluation.sizes.items():
        if isinstance(size, DevelopmentSize):
            enough = "yes" if size.patients >= size.needed.patients else "no"
            rows.append(
                (
                    titles[name],
                    end_point_name(end_point),
                    str(size.parameters),
                    number(size.r2),
                    f"{size.patients} ({size.events} events)",
                    str(size.needed.patients),
                    enough,
                )
            )
        else:
            refused.append(f"{titles[name]}, {end_point_name(end_point)}: {size.reason}.")
    blocks: list[Block] = []
    if rows:
        blocks.append(
            Table(
                "Patients that development needs (Riley and others, 2019 and 2020)",
                ("Model", "End point", "Parameters", "R2 (Cox and Snell)", "Trained on", "Needed", "Enough"),
                tuple(rows),
                (22, 22, 12, 14, 16, 8, 8),
                "R2 is that of the first evaluation set. Models with penalties or pretrained parts may do "
                "with fewer; the criteria were made for regressions without them.",
            )
        )
    if refused:
        blocks.append(Points(tuple(refused)))
    return Section("Sample size", tuple(blocks) or (Words("No size could be derived."),))


def published_section() -> Section:
    """Return the published figures of other systems."""
    rows = tuple(
        (
            r.system,
            r.patients,
            capital(r.end_point) if r.end_point not in SURVIVAL_END_POINTS else r.end_point.upper(),
            r.measure,
            ", ".join(f"{k} {v:g}" for k, v in r.values.items()),
            r.source,
        )
        for r in published_results()
    )
    table = Table(
        "Published figures",
        ("System", "Patients", "End point", "Measure", "Figures", "Source"),
        rows,
        (18, 18, 10, 12, 20, 22),
    )
    return Section(
        "What others have published: other patients, cannot be compared", (Words(WHY_NOT_COMPARED), table)
    )


def gaps_section(found: Sequence[Gap]) -> Section:
    """Return what could not be computed, grouped by reason."""
    ordered = sorted((g for g in found if not _follows(g.where)), key=lambda g: g.why)
    rows = []
    for why, group in groupby(ordered, key=lambda g: g.why):
        places = sorted({_place(g.where) for g in group})
        more = f"; and {len(places) - _GAPS_SHOWN} more, in metrics.json" if len(places) > _GAPS_SHOWN else ""
        rows.append((capital(why), str(len(places)), "; ".join(places[:_GAPS_SHOWN]) + more))
    if not rows:
        return Section("What could not be computed", (Words("Everything was computed."),))
    note = "Differences and arms that lack one of these figures are not listed; metrics.json has them all."
    table = Table("", ("Why", "Places", "Where"), tuple(rows), (34, 8, 58), note)
    return Section("What could not be computed", (table,))


def _follows(where: Sequence[str]) -> bool:
    """Whether a gap only follows from another that is listed."""
    derived = {"pairs", "treating_all", "less_rest"}
    return bool(derived.intersection(where)) or ("arms" in where and where[-1] != "arms")


def _place(where: Sequence[str]) -> str:
    """Return where a figure would be, without the model: most gaps are of the patients."""
    words = [w for w in where if w not in ("sets", "end_points", "figures", "curves", "models")]
    if "sample_size" in where:
        return ", ".join(words[1:])
    if "models" in where:
        del words[words.index(where[where.index("models") + 1])]
    if "subgroups" in where:
        return ", ".join(w.replace("_", " ") for w in words if w != "subgroups")
    last = words[-1].replace("_", " ")
    horizon = where[where.index("curves") + 1] if "curves" in where else words[-1].partition("@")[2]
    named = words[:2] if "end_points" in where else words[:1]
    return ", ".join([*named, f"{horizon} months" if horizon else last])


def checklist_section(items: Sequence[FilledItem], unknown: Sequence[str]) -> Section:
    """Return the reporting checklist."""
    counts = {state: sum(i.state is state for i in items) for state in State}
    text = "; ".join(f"{n} {state}" for state, n in counts.items() if n)
    blocks: list[Block] = [
        Words(
            f"Of {len(items)} items: {text}. What a person writes goes into study.json of the predictions, "
            "under the number of the item, and stands here the next time."
        )
    ]
    if unknown:
        blocks.append(Words(f"study.json has numbers that no guideline has: {', '.join(unknown)}."))
    for guideline, group in groupby(items, key=lambda i: i.guideline):
        rows = tuple((i.number, i.text, str(i.state), i.answer or "-") for i in group)
        heads = ("Item", "What is asked", "Who", "Answer")
        blocks.append(Table(guideline, heads, rows, (12, 30, 12, 46)))
    return Section("Reporting checklist", tuple(blocks))


def methods_section(evaluation: Evaluation) -> Section:
    """Return how it was computed and what it does not say."""
    plan = evaluation.plan
    unused = ", ".join(evaluation.unused)
    items = [
        (
            f"{plan.draws} bootstrap draws of patients, seed {plan.seed}; one matrix of draws a set, so that "
            "all differences are paired."
        ),
        (
            "Censored patients are made up for by inverse probability of censoring, estimated in the same "
            "set and anew in every draw."
        ),
        (
            "Calibration curves are Cox regressions on a spline of the predicted risk. Draws of ICI, E50 and "
            "E90 scatter more than the patients themselves do, so that their intervals lie rather high."
        ),
        (
            f"A group with fewer than {plan.fewest_events} events is not measured, nor a horizon to which "
            f"fewer than {plan.fewest_at_risk} patients are followed."
        ),
        *LIMITS,
    ]
    if unused:
        items.append(f"Columns that form no subgroup: {unused}.")
    return Section("Methods and limits", (Points(tuple(items)),))
