"""Reading single attributes of headers that may lack them or hold nonsense."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue


def text(header: Dataset, keyword: str) -> str:
    """Return an attribute as text, several values joined by a backslash, or an empty string."""
    value = header.get(keyword)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return "\\".join(str(v) for v in value)
    except TypeError:
        return str(value)


def number(header: Dataset, keyword: str) -> float | None:
    """Return the first value of a numeric attribute, or None when it is absent or not a number."""
    value = header.get(keyword)
    try:
        if value is None or value == "":
            return None
        return float(value[0]) if isinstance(value, list | MultiValue) else float(value)
    except (TypeError, ValueError, IndexError):
        return None


def numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the `count` values of a numeric attribute, or None when they are not there."""
    try:
        values = tuple(float(v) for v in header.get(keyword) or ())
    except (TypeError, ValueError):
        return None
    return values if len(values) == count else None
