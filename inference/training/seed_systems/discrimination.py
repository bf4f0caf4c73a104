"""Discrimination of validation patients for a bundle's metadata: left out where it cannot be computed."""

from __future__ import annotations

import logging

from inference.evaluation.metrics import BoolArray
from inference.evaluation.survival.concordance import harrell_c
from inference.evaluation.survival.dynamic_auc import dynamic_auc
from inference.evaluation.survival.follow_up import FollowUp
from inference.results import FloatArray

_log = logging.getLogger(__name__)


def concordance(name: str, months: FloatArray, event: BoolArray, risk: FloatArray) -> dict[str, float]:
    """Return Harrell's C under a name; nothing without events or pairs that can be compared."""
    try:
        return {name: round(harrell_c(FollowUp(months, event), risk), 4)}
    except ValueError as error:
        _log.info("%s is left out: %s", name, error)
        return {}


def auc_at(name: str, months: FloatArray, event: BoolArray, risk: FloatArray, at: float) -> dict[str, float]:
    """Return the cumulative/dynamic AUC at a time under a name; nothing where it cannot be computed."""
    try:
        seen = FollowUp(months, event)
        return {name: round(float(dynamic_auc(seen, seen, risk, [at]).auc[0]), 4)}
    except ValueError as error:
        _log.info("%s is left out: %s", name, error)
        return {}
