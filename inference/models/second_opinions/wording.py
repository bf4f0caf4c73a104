"""Words and values that several second opinions share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from inference.errors import ModelError
from inference.results import OpinionValue

HORIZONS_MONTHS = (12.0, 24.0, 36.0)
ENDPOINTS: Mapping[str, str] = MappingProxyType(
    {"os": "overall survival", "pfs": "progression-free survival"}
)


def at_months(endpoint: str, survival: Mapping[float, float]) -> tuple[OpinionValue, ...]:
    """Return survival probabilities by month as values of an opinion."""
    return tuple(
        OpinionValue(f"{ENDPOINTS[endpoint]} at {months:g} months", probability, "1")
        for months, probability in survival.items()
    )


def bundle_word(metadata: Mapping[str, Any], key: str, known: Collection[str], name: str) -> str:
    """Return a word of a bundle's metadata.

    Raises
    ------
    ModelError
        It is absent, or none of the known ones.
    """
    found = metadata.get(key)
    if found not in known:
        raise ModelError(f"the model bundle {name} does not say its {key}: one of {', '.join(known)}")
    return str(found)
