"""Which of the regimens asked about a system was made for."""

from __future__ import annotations

from collections.abc import Sequence

from inference.results import NotAssessed, Reason
from inference.settings import Regimen


def covered(made_for: Sequence[str], asked: Sequence[Regimen]) -> tuple[str | None, ...]:
    """Return the ids of the regimens that a system speaks of; (None,) where it knows no regimens."""
    if not made_for:
        return (None,)
    return tuple(r.id for r in asked if r.id in made_for)


def not_covered(system: str, made_for: Sequence[str]) -> NotAssessed:
    """Return the refusal of a system whose regimens were not asked about."""
    return NotAssessed(
        Reason.REGIMEN_NOT_COVERED,
        f"{system} was made for patients treated with {' or '.join(made_for)}; no such regimen is forecast.",
    )
