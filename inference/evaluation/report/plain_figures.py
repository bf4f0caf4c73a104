"""Results as plain values for JSON, and the list of what could not be computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from inference.evaluation.report.sampled import NotComputed, Sampled

_DIGITS = 7
NOT_COMPUTED = "not_computed"
_LABELS = ("column", "name", "end_point", "model", "first", "horizon")
"""Fields that name an entry of a list."""


def plain(value: Any) -> Any:
    """Return a result as dict, list, str, number or None.

    Numbers have seven digits; NaN and infinity are None, as JSON has neither. A figure is its value with
    the limits of its interval and its patients; one that could not be computed is ``{not_computed: reason}``.
    """
    if isinstance(value, Sampled):
        return plain(value.estimate)
    if isinstance(value, NotComputed):
        return {NOT_COMPUTED: value.reason}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {_key(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return _scalar(value)


def _key(key: object) -> str:
    if isinstance(key, tuple):
        return " - ".join(str(k) for k in key)
    return f"{key:g}" if isinstance(key, float) else str(key)


def _scalar(value: Any) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, int | np.integer):
        return int(value)
    return value if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Gap:
    """A figure that is not there: where it would be, and why it is not."""

    where: tuple[str, ...]
    why: str


def gaps(document: Any, where: tuple[str, ...] = ()) -> Iterator[Gap]:
    """Yield everything in a plain document that could not be computed."""
    if isinstance(document, Mapping):
        if NOT_COMPUTED in document:
            yield Gap(where, str(document[NOT_COMPUTED]))
            return
        for key, value in document.items():
            yield from gaps(value, (*where, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from gaps(value, (*where, _label(value, index)))


def _label(value: Any, index: int) -> str:
    if isinstance(value, Mapping):
        named = [
            f"{value[k]:g}" if isinstance(value[k], float) else str(value[k]) for k in _LABELS if k in value
        ]
        if "column" in value:
            return " ".join(named[:2])
        if "second" in value:
            named.append(str(value["second"]))
        if named:
            return " ".join(named)
    return str(index + 1)
