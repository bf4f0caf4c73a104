"""How names and figures are written in the report."""

from __future__ import annotations

import math

from inference.evaluation.bootstrap import Estimate
from inference.evaluation.predictions.models import Arm
from inference.evaluation.predictions.patients import EXTERNAL, OS, PFS, RESPONSE, TEST, TRAIN, VALIDATION
from inference.evaluation.report.sampled import NotComputed, Sampled

_END_POINTS = {OS: "overall survival", PFS: "progression-free survival", RESPONSE: "objective response"}
_SETS = {TRAIN: "training", VALIDATION: "validation", TEST: "test", EXTERNAL: "external"}
ARM_TITLES = {
    Arm.CLINICAL: "Clinical",
    Arm.BASELINE_IMAGES: "Clinical + real baseline images",
    Arm.REAL_FOLLOW_UP: "Clinical + real follow-up images",
    Arm.VIRTUAL: "Clinical + virtual images",
    Arm.OTHER: "Other",
}


def end_point_name(end_point: str) -> str:
    """Return an end point in words."""
    return _END_POINTS[end_point]


def set_name(split: str) -> str:
    """Return a split in words."""
    if split in _SETS:
        return _SETS[split]
    return f"external {split.removeprefix(EXTERNAL + '-')}"


def capital(text: str) -> str:
    """Return a text whose first letter is a capital; the others stay."""
    return text[:1].upper() + text[1:]


def months(value: float) -> str:
    """Return a time in months, or "not reached"."""
    return f"{value:.1f} months" if math.isfinite(value) else "not reached"


def figure(value: Sampled | Estimate | NotComputed) -> str:
    """Return a figure with its interval, or a dash; the reason stands in the list of what is missing."""
    if isinstance(value, NotComputed):
        return "-"
    found = value.estimate if isinstance(value, Sampled) else value
    if not found.known:
        return "-"
    text = number(found.value)
    if math.isfinite(found.lower) and math.isfinite(found.upper):
        text += f" ({number(found.lower)} to {number(found.upper)})"
    return text


def number(value: float) -> str:
    """Return a figure with three digits behind the point; large ones with fewer."""
    if not math.isfinite(value):
        return "-"
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return "0.000" if text == "-0.000" else text


def p_value(p: float) -> str:
    """Return a p-value; small ones as "below 0.001"."""
    if not math.isfinite(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
