"""What people read of second opinions."""

from __future__ import annotations

from collections.abc import Mapping

from inference.results import OpinionValue, SecondOpinion


def title_of(opinion: SecondOpinion, names: Mapping[str, str]) -> str:
    """Return the system, and the regimen where its opinion is about one."""
    if opinion.regimen_id is None:
        return opinion.system
    return f"{opinion.system}: {names.get(opinion.regimen_id, opinion.regimen_id)}"


def value_text(value: OpinionValue) -> str:
    """Return a value with its unit and limits."""
    if isinstance(value.value, str):
        return value.value
    number = f"{value.value:.4g}"
    if value.interval95 is not None:
        low, high = value.interval95
        number = f"{number} ({low:.4g} to {high:.4g})"
    return f"{number} {unit_text(value.unit)}".rstrip()


def unit_text(unit: str) -> str:
    """Return a UCUM unit as people write it; 1 stands for none."""
    return "" if unit == "1" else unit.strip("{}")
