"""What a comparison of the arms leaves behind: figures, tables, a picture, and folders of predictions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from inference.evaluation.arms.figures import HORIZONS, MEASURES, EndPointFigures
from inference.evaluation.arms.picture import forest
from inference.evaluation.arms.plan import ARMS, ORIGIN_TITLES, SHORT, TITLES, ArmsPlan, Origin
from inference.evaluation.arms.run import ArmsReport
from inference.evaluation.arms.tables import LANDMARK
from inference.evaluation.arms.validation import MONTHS, Compared
from inference.evaluation.bootstrap import Estimate
from inference.evaluation.predictions.folder import ModelPredictions, Study, write_predictions
from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry, Role
from inference.evaluation.predictions.patients import Patients, TimeToEvent
from inference.evaluation.predictions.survival_file import SurvivalPrediction
from inference.models.survival.fitted import REGIMEN
from inference.results import FloatArray

REPORT, TABLE, TEXT, PICTURE = "arms.json", "arms.csv", "arms.md", "arms.png"
PREDICTIONS: Mapping[Origin, str] = {
    Origin.TREATMENT: "predictions_from_treatment",
    Origin.LANDMARK: "predictions_from_landmark",
}
_SHOWN = ("harrell_c", "uno_c", *(f"auc@{h:g}" for h in HORIZONS), "ibs")


def write_arms(out: Path, report: ArmsReport) -> tuple[Path, ...]:
    """Write everything; returns the paths. The same report gives the same bytes."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document(report), indent=1, ensure_ascii=False) + "\n"
    (out / REPORT).write_text(text, encoding="utf-8")
    pd.DataFrame(list(_long(report.figures))).to_csv(out / TABLE, index=False, lineterminator="\n")
    (out / TEXT).write_text(as_markdown(report), encoding="utf-8")
    (out / PICTURE).write_bytes(forest(report.figures).png)
    folders = []
    for origin, name in PREDICTIONS.items():
        found = [c for c in report.compared if c.table.origin is origin]
        if found:
            _predictions(out / name, report, origin, found)
            folders.append(out / name)
    return (*(out / name for name in (REPORT, TABLE, TEXT, PICTURE)), *folders)


# ------------------------------------------------------------------ figures


def document(report: ArmsReport) -> dict[str, Any]:
    """Return the report as plain values."""
    plan = asdict(report.plan)
    return {
        "generator": asdict(report.generator),
        "image_encoder": asdict(report.encoder),
        "plan": plan,
        "sets": [asdict(one) for one in report.sets],
        "left_out": {str(origin): reason for origin, reason in report.left_out.items()},
        "tables": [_table(one) for one in report.figures],
    }


def _table(found: EndPointFigures) -> dict[str, Any]:
    return {
        "set": found.set_name,
        "from": str(found.origin),
        "end_point": found.end_point,
        "patients": found.patients,
        "events": found.events,
        "arms": {str(arm): _estimates(values) for arm, values in found.figures.items()},
        "differences": [
            {"arm": str(arm), "less": str(other), **_estimates(values)}
            for (arm, other), values in found.differences.items()
        ],
        "not_computed": dict(found.reasons),
    }


def _estimates(values: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {
        measure: {"value": _number(e.value), "lower": _number(e.lower), "upper": _number(e.upper)}
        for measure, e in values.items()
    }


def _number(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _long(figures: Sequence[EndPointFigures]) -> Iterator[dict[str, object]]:
    for found in figures:
        same = {
            "set": found.set_name,
            "from": str(found.origin),
            "end_point": found.end_point,
            "patients": found.patients,
            "events": found.events,
        }
        rows = [(arm, "", values) for arm, values in found.figures.items()]
        rows += [(arm, str(other), values) for (arm, other), values in found.differences.items()]
        for arm, less, values in rows:
            for measure, e in values.items():
                figure = {"value": _number(e.value), "lower": _number(e.lower), "upper": _number(e.upper)}
                yield {**same, "arm": str(arm), "less": less, "measure": measure, **figure}


# ------------------------------------------------------------------ text


def as_markdown(report: ArmsReport) -> str:
    """Return the tables as Markdown."""
    generator, encoder, plan = report.generator, report.encoder, report.plan
    about = (
        f"Virtual images: {generator.name} {generator.version} ({generator.trained_on}). Image vectors: "
        f"{encoder.name} {encoder.version}. Neither was trained on the patients below. Survival models are "
        f"fitted within the test patients by {plan.folds}-fold cross-validation; external patients are "
        "forecast by the models of all test patients. In brackets 95 % intervals of "
        f"{plan.draws} resamples of patients; differences are paired. "
        "Higher is better, but for the Brier score."
    )
    lines = ["# What images add to clinical values", "", about, ""]
    lines += [
        f"- {s.name}: {s.cohort} ({s.origin}), {s.patients} patients, {s.with_real_follow_up} with a real "
        f"follow-up image, {s.refused_virtual_images} virtual images that the generator does not cover"
        for s in report.sets
    ]
    for origin, reason in report.left_out.items():
        lines += ["", f"{ORIGIN_TITLES[origin]}: not compared, {reason}."]
    for found in report.figures:
        lines += _markdown_table(found, report.plan)
    return "\n".join(lines) + "\n"


def _markdown_table(found: EndPointFigures, plan: ArmsPlan) -> list[str]:
    header = " | ".join(MEASURES[m] for m in _SHOWN)
    lines = [
        "",
        f"## {found.end_point.upper()}, {found.set_name}: {ORIGIN_TITLES[found.origin].lower()}",
        "",
        f"{found.patients} patients, {found.events} events. {_followed(found.origin, plan)}",
        "",
        f"| | {header} |",
        "|---|" + "---|" * len(_SHOWN),
    ]
    rows = [(TITLES[arm], values) for arm, values in found.figures.items()]
    rows += [(f"{SHORT[arm]} less {SHORT[other]}", v) for (arm, other), v in found.differences.items()]
    lines += [f"| {title} | " + " | ".join(shown(v[m]) for m in _SHOWN) + " |" for title, v in rows]
    if found.reasons:
        lines.append("")
    lines += [f"- {MEASURES[m]}: not computed, {reason}" for m, reason in found.reasons.items()]
    return lines


def _followed(origin: Origin, plan: ArmsPlan) -> str:
    if origin is Origin.TREATMENT:
        months = ", ".join(f"{m:g}" for m in plan.months)
        return f"Months count from the start of treatment; virtual images of months {months}."
    if plan.landmark_months is None:
        return "Months count from the first real follow-up image of each patient."
    return f"Months count from month {plan.landmark_months:g}, of patients with a follow-up image by then."


def shown(estimate: Estimate) -> str:
    """Return a figure with its interval as text."""
    if not estimate.known:
        return "-"
    return f"{estimate.value:.3f} ({estimate.lower:.3f} to {estimate.upper:.3f})"


# ------------------------------------------------------------------ predictions


def _predictions(folder: Path, report: ArmsReport, origin: Origin, found: Sequence[Compared]) -> None:
    arms = [arm for arm in ARMS if arm in found[0].forecasts]
    models = [_model(arm, report, found) for arm in arms]
    title = f"Arms of the study protocol. {ORIGIN_TITLES[origin]}."
    write_predictions(folder, _patients(report, found), models, Study(title=title))


def _model(arm: Arm, report: ArmsReport, found: Sequence[Compared]) -> ModelPredictions:
    entry = ModelEntry(
        name=str(arm),
        title=TITLES[arm],
        arm=arm,
        end_points=(EndPoint.OS, EndPoint.PFS),
        role=Role.REFERENCE if arm is Arm.CLINICAL else Role.CANDIDATE,
        kind="survival model of the study protocol; months count from the origin that the title names",
        trained_on=f"{report.sets[0].cohort}, test patients, {report.plan.folds}-fold cross-validation"[:200],
    )
    survival = {}
    for end_point in found[0].table.outcomes:
        risk = np.concatenate([c.forecasts[arm][end_point].risk for c in found])
        curves = np.concatenate([c.forecasts[arm][end_point].survival for c in found])
        none = np.full_like(curves, np.nan)
        survival[end_point] = SurvivalPrediction(np.array(MONTHS), risk, curves, none, none)
    return ModelPredictions(entry, survival)


def _patients(report: ArmsReport, found: Sequence[Compared]) -> Patients:
    names = found[0].table.outcomes
    rows = [report.cohorts[c.set_name].patients.set_index("patient_id").loc[list(c.table.ids)] for c in found]
    every = pd.concat(rows)
    survival = {
        name: TimeToEvent(
            np.concatenate([c.table.outcomes[name].months for c in found]),
            np.concatenate([_events(c, name) for c in found]),
        )
        for name in names
    }
    ids = [f"{i}:{p}" if i else p for i, c in enumerate(found) for p in c.table.ids]
    split = [c.set_name for c in found for _ in c.table.ids]
    return Patients(
        ids=tuple(ids),
        centre=every["centre"].astype(str).to_numpy(dtype=np.str_),
        split=np.array(split, dtype=np.str_),
        regimen=every["regimen_id"].astype(str).to_numpy(dtype=np.str_),
        survival=survival,
        response=np.full(len(ids), np.nan),
        covariates=_covariates(found),
    )


def _events(found: Compared, name: str) -> FloatArray:
    followed = found.table.outcomes[name]
    return np.where(followed.known, followed.event.astype(np.float64), np.nan)


def _covariates(found: Sequence[Compared]) -> pd.DataFrame:
    """Return the clinical columns that the arms share, those that are missing for everybody left out."""
    tables = [pd.DataFrame(dict(c.table.rows[Arm.CLINICAL].inputs.table)) for c in found]
    joined = pd.concat(tables, ignore_index=True).drop(columns=[REGIMEN])
    kept = joined.dropna(axis="columns", how="all")
    return kept.rename(columns={LANDMARK: "months_to_landmark"})
