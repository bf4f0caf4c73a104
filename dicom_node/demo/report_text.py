"""The content tree of a structured report as nested text, for the demonstration's page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Line:
    """One content item: its name, its value as text, and what is below it."""

    name: str
    value: str
    children: tuple[Line, ...]


def _meaning(sequence: object) -> str:
    items = list(sequence) if sequence else []  # type: ignore[call-overload]
    return str(items[0].CodeMeaning) if items else ""


def _number(item: Dataset) -> str:
    measured = item.MeasuredValueSequence
    if not measured:
        return "not measured"
    unit = measured[0].MeasurementUnitsCodeSequence[0]
    shown = "" if unit.CodeValue == "1" else f" {unit.CodeValue}"
    return f"{measured[0].NumericValue}{shown}"


def _reference(item: Dataset) -> str:
    reference = item.ReferencedSOPSequence[0]
    return f"{reference.ReferencedSOPClassUID.name} …{str(reference.ReferencedSOPInstanceUID)[-8:]}"


_VALUES: dict[str, Callable[[Dataset], str]] = {
    "CODE": lambda item: _meaning(item.ConceptCodeSequence),
    "TEXT": lambda item: str(item.TextValue),
    "NUM": _number,
    "UIDREF": lambda item: f"…{str(item.UID)[-8:]}",
    "PNAME": lambda _item: "(person)",
    "DATETIME": lambda item: str(item.DateTime),
    "IMAGE": _reference,
    "COMPOSITE": _reference,
    "SCOORD": lambda item: f"{item.GraphicType} of {len(item.GraphicData) // 2} points",
    "SCOORD3D": lambda item: f"{item.GraphicType} of {len(item.GraphicData) // 3} points",
}


def content_tree(item: Dataset) -> Line:
    """Return the content item and all below it (PS3.3 C.17.3)."""
    show = _VALUES.get(str(item.get("ValueType", "CONTAINER")))
    value = show(item) if show else ""
    children = tuple(content_tree(child) for child in item.get("ContentSequence", []))
    return Line(_meaning(item.get("ConceptNameCodeSequence")), value, children)
