"""What the routing rules would do with a study, from what an archive says of it before it is retrieved.

A query does not tell everything that a rule may ask for: slice thickness and pixel spacing are in the
images only. An expression that needs such a fact fails on it, and the answer is then that it cannot be
known. CEL gives a definite value where the unknown part does not matter (``false && unknown``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.batch.archive import Answer, count
from dicom_node.intake.assembly import INPUT_MODALITIES
from dicom_node.routing.facts import ATTRIBUTES
from dicom_node.routing.rules import Decision, Router, Tried, Verdict
from inference.provenance import MANUFACTURER

UNKNOWN = "cannot be known before retrieval"

_TESTED = re.compile(r"""has\([^)]*?\.attributes\.(\w+)\s*\)|["'](\w+)["']\s+in\b""")
"""Tests of presence, which give false, and no error, for an attribute that a query does not tell."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the rules would do: an action of `Action` or `UNKNOWN`, the rule, and why."""

    action: str
    rule: str = ""
    reason: str = ""

    @property
    def text(self) -> str:
        """In one line."""
        by = f" by rule {self.rule!r}" if self.rule else ""
        return f"{self.action}{by}" + (f": {self.reason}" if self.reason else "")


def input_series(series: Sequence[Answer], left_out: frozenset[str] = frozenset()) -> tuple[Answer, ...]:
    """Return the series that can be input: of the right modality, not in `left_out`, not of our making."""
    return tuple(
        s
        for s in series
        if s.get("Modality") in INPUT_MODALITIES
        and s.get("SeriesInstanceUID", "") not in left_out
        and s.get("Manufacturer", "").strip().casefold() != MANUFACTURER.casefold()
    )


def query_facts(study: Answer, series: Sequence[Answer], calling_ae: str) -> dict[str, Any]:
    """Return the variables of a routing expression, without those that the archive does not tell."""
    counts = {s["SeriesInstanceUID"]: count(s, "NumberOfSeriesRelatedInstances") or 0 for s in series}
    return {
        "calling_ae": calling_ae,
        "study": {
            "uid": study["StudyInstanceUID"],
            "modalities": sorted({s["Modality"] for s in series}),
            "instances": sum(counts.values()),
            "segmentations": sum(counts[s["SeriesInstanceUID"]] for s in series if s["Modality"] == "SEG"),
            "attributes": _attributes(study),
        },
        "series": [_series_facts(s, counts[s["SeriesInstanceUID"]]) for s in series],
    }


def _series_facts(series: Answer, instances: int) -> dict[str, Any]:
    facts = {
        "uid": series["SeriesInstanceUID"],
        "modality": series["Modality"],
        "instances": instances,
        "attributes": _attributes(series),
    }
    told = {"description": "SeriesDescription", "body_part": "BodyPartExamined"}
    return facts | {name: series[keyword] for name, keyword in told.items() if keyword in series}


def _attributes(answer: Answer) -> dict[str, str]:
    return {k: answer[k] for k in ATTRIBUTES if k in answer}


def expect(router: Router, facts: Mapping[str, Any]) -> Expected:
    """Return what the rules would do with a study of `query_facts`."""
    if not facts["series"]:
        return Expected("ignore", reason="the archive has no series of it that can be input")
    decision = router.decide(facts)
    if doubt := _doubt(decision, facts):
        return doubt
    return Expected(str(decision.action), decision.rule, decision.reason)


def _doubt(decision: Decision, facts: Mapping[str, Any]) -> Expected | None:
    """Return why the decision may be another one once the images are here, or None."""
    for tried in decision.tried:
        if tried.verdict is Verdict.NOT_REACHED:
            return None
        if tried.verdict is Verdict.ERROR:
            return Expected(UNKNOWN, tried.rule.name, tried.error)
        if absent := _tested_unknown(tried, facts):
            return Expected(UNKNOWN, tried.rule.name, f"the archive does not tell {absent}")
    return None


def _tested_unknown(tried: Tried, facts: Mapping[str, Any]) -> str:
    """Return an attribute whose presence the rule tests and that the archive did not tell of all series."""
    names: set[str] = {
        name for pair in _TESTED.findall(tried.rule.when) for name in pair if name in ATTRIBUTES
    }
    for name in sorted(names):
        if not all(name in s["attributes"] for s in facts["series"]):
            return name
    return ""
