"""The reporting checklist, filled from an evaluation where it can be, and for a person where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files

import yaml
from pydantic import Field, TypeAdapter

from inference.evaluation.report.checklist_texts import TEXTS
from inference.evaluation.report.evaluation import Evaluation
from inference.settings import Frozen


class Item(Frozen):
    """One item of a guideline."""

    number: str
    section: str
    text: str
    fill: str | None = None
    person: bool = Field(False, description="a person has something to add")


class Guideline(Frozen):
    """One guideline and its items."""

    guideline: str
    source: str
    items: tuple[Item, ...]


class State(StrEnum):
    """Who has filled an item."""

    FILLED = "filled"
    GIVEN = "written by a person"
    PART = "filled in part, a person adds"
    OPEN = "for a person"


@dataclass(frozen=True, slots=True)
class FilledItem:
    """One item with its answer.

    Attributes
    ----------
    answer : str
        Empty where a person has to write it.
    """

    guideline: str
    number: str
    section: str
    text: str
    state: State
    answer: str


_GUIDELINES = TypeAdapter(tuple[Guideline, ...])


def guidelines() -> tuple[Guideline, ...]:
    """Return the packaged checklist."""
    path = files("inference.evaluation.report").joinpath("reporting_checklist.yaml")
    return _GUIDELINES.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))


def filled_checklist(evaluation: Evaluation) -> tuple[FilledItem, ...]:
    """Return every item with what the evaluation knows and what ``study.json`` says."""
    written = evaluation.predictions.study.items
    return tuple(
        _filled(guideline.guideline, item, evaluation, written.get(item.number, ""))
        for guideline in guidelines()
        for item in guideline.items
    )


def unknown_items(evaluation: Evaluation) -> tuple[str, ...]:
    """Return numbers of ``study.json`` that no guideline has."""
    known = {item.number for guideline in guidelines() for item in guideline.items}
    return tuple(sorted(set(evaluation.predictions.study.items) - known))


def _filled(guideline: str, item: Item, evaluation: Evaluation, written: str) -> FilledItem:
    found = TEXTS[item.fill](evaluation) if item.fill else ""
    answer = " ".join(part for part in (found, written) if part)
    if written:
        state = State.GIVEN
    elif found:
        state = State.PART if item.person else State.FILLED
    else:
        state = State.OPEN
    return FilledItem(guideline, item.number, item.section, item.text, state, answer)
