"""Ordered routing rules, one CEL expression each; the first that is true applies.

CEL (Common Expression Language) has no side effects and always ends. An expression that fails on a
study, or that is neither true nor false, holds the study with the reason: it is never skipped.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import cel

from dicom_node.errors import ConfigurationError
from dicom_node.jobs.ledger import Plan
from dicom_node.routing.facts import ATTRIBUTES
from dicom_node.settings import Action, PeerSettings, Rule

_log = logging.getLogger(__name__)

VARIABLES: Mapping[str, Any] = {
    "calling_ae": "",
    "study": {"uid": "", "modalities": [], "instances": 0, "segmentations": 0, "attributes": {}},
    "series": [],
}
"""Names that every expression may use, with an empty study as their values."""


EXPRESSION_ERRORS = (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError)
"""What evaluating an expression may raise."""

_ATTRIBUTE_USE = re.compile(r"\battributes\s*\.\s*([A-Za-z]\w*)")


class Verdict(StrEnum):
    """What became of one rule on one study."""

    TRUE = "true"
    FALSE = "false"
    ERROR = "error"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Tried:
    """One rule, what its expression gave, and the error if it failed."""

    rule: Rule
    verdict: Verdict
    error: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rules decided, and how each came out.

    `plan` is set for `Action.FORECAST` only; `reason` says why for the others.
    """

    action: Action
    rule: str
    reason: str
    plan: Plan | None
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class _Compiled:
    rule: Rule
    program: Any


class Router:
    """The rules of one configuration, compiled.

    Raises
    ------
    ConfigurationError
        An expression does not compile or names an unknown variable; the message names the rule.
    """

    def __init__(self, rules: Sequence[Rule], peers: Sequence[PeerSettings]) -> None:
        self._compiled = tuple(_compile(rule) for rule in rules)
        self._peer_of = {p.ae_title: p.name for p in peers}

    def decide(self, facts: Mapping[str, Any]) -> Decision:
        """Return what happens to the study with these facts (`dicom_node.routing.facts`)."""
        tried: list[Tried] = []
        applied: Tried | None = None
        for item in self._compiled:
            result = Tried(item.rule, Verdict.NOT_REACHED) if applied else _try(item, facts)
            tried.append(result)
            if applied is None and result.verdict is not Verdict.FALSE:
                applied = result
        return self._decision(applied, tuple(tried), str(facts["calling_ae"]))

    def _decision(self, applied: Tried | None, tried: tuple[Tried, ...], calling_ae: str) -> Decision:
        if applied is None:
            return Decision(Action.IGNORE, "", "no routing rule applies", None, tried)
        rule = applied.rule
        if applied.verdict is Verdict.ERROR:
            reason = f"routing rule {rule.name!r} failed: {applied.error}"
            return Decision(Action.HOLD, rule.name, reason, None, tried)
        if rule.action is not Action.FORECAST:
            reason = rule.reason or f"routing rule {rule.name!r}"
            return Decision(rule.action, rule.name, reason, None, tried)
        send_to = rule.send_to or tuple(p for p in (self._peer_of.get(calling_ae),) if p)
        if not send_to:
            reason = (
                f"routing rule {rule.name!r} sends results back, but no peer has the AE title "
                f"{calling_ae!r}; add it under peers: or name send_to in the rule"
            )
            return Decision(Action.HOLD, rule.name, reason, None, tried)
        plan = Plan(
            rule=rule.name,
            regimens=rule.regimens,
            months=rule.months,
            outputs=tuple(str(o) for o in rule.outputs),
            send_to=send_to,
            priority=rule.priority,
            queue=rule.queue,
        )
        return Decision(Action.FORECAST, rule.name, "", plan, tried)


def _compile(rule: Rule) -> _Compiled:
    start = f"routing rule {rule.name!r}: {rule.when!r} cannot be used: "
    unknown = [k for k in _ATTRIBUTE_USE.findall(rule.when) if k not in ATTRIBUTES]
    if unknown:
        raise ConfigurationError(
            f"{start}{unknown[0]} is not among the attributes of rules, which are {', '.join(ATTRIBUTES)}"
        )
    try:
        program = cel.compile(rule.when)
        program.execute(dict(VARIABLES))
    except LookupError:
        _log.debug("routing rule %r needs attributes that an empty study lacks", rule.name)
    except EXPRESSION_ERRORS as error:
        raise ConfigurationError(start + str(error)) from error
    return _Compiled(rule, program)


def _try(item: _Compiled, facts: Mapping[str, Any]) -> Tried:
    try:
        value = item.program.execute(dict(facts))
    except EXPRESSION_ERRORS as error:
        return Tried(item.rule, Verdict.ERROR, _explain(error))
    if not isinstance(value, bool):
        return Tried(item.rule, Verdict.ERROR, f"it gives {type(value).__name__}, not true or false")
    return Tried(item.rule, Verdict.TRUE if value else Verdict.FALSE)


def _explain(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the study has no {error.args[0]}; guard it with has()"
    return str(error)
