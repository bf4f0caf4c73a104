"""Published figures of other systems, which stand beside ours and cannot be compared with them."""

from __future__ import annotations

from importlib.resources import files

import yaml
from pydantic import TypeAdapter

from inference.settings import Frozen

WHY_NOT_COMPARED = (
    "Other patients, centres and definitions: a C or an AUC depends on how much the patients differ among "
    "themselves, so these figures cannot be compared with ours, nor with each other."
)


class PublishedResult(Frozen):
    """One figure of one system, by set of patients or by variant."""

    system: str
    source: str
    patients: str
    end_point: str
    measure: str
    values: dict[str, float]


_RESULTS = TypeAdapter(tuple[PublishedResult, ...])


def published_results() -> tuple[PublishedResult, ...]:
    """Return the packaged figures."""
    text = files("inference.evaluation.report").joinpath("published_results.yaml").read_text(encoding="utf-8")
    return _RESULTS.validate_python(yaml.safe_load(text))
