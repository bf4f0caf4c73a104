"""Response categories by RECIST 1.1 and mRECIST, as pure functions of diameters.

The two criteria share one arithmetic and differ in what is measured and in one limit:

==============  ==================================  ===================================
                RECIST 1.1                          mRECIST
==============  ==================================  ===================================
diameter        whole lesion                        viable, arterially enhancing part
CR              all targets gone, nodes < 10 mm     no viable part left in any target
PR              sum <= 70 % of the baseline sum     the same
PD              sum >= 120 % of the nadir and       sum >= 120 % of the nadir
                at least 5 mm above it
==============  ==================================  ===================================

The nadir is the smallest sum since and including the baseline. Progression from the nadir is looked
at before partial response, because a patient who regrows is progressing however small the sum still
is. Both limits are inclusive and are compared with a relative tolerance of 1e-9, so that a change of
exactly 30 % is a partial response whichever way the decimal fraction is rounded in binary.

These rules give the categories of all 574 complete rows of the three readers of HCC-TACE-Seg (287 by
RECIST, 287 by mRECIST) from the two sums alone: there the only earlier sum, and so the nadir, is the
baseline; an mRECIST sum of 0 is CR; sums are compared as written, without rounding the percentage.

References
----------
Eisenhauer et al. 2009, Eur J Cancer 45:228 (RECIST 1.1), sections 4.3 and tables 1 and 3.
Lencioni & Llovet 2010, Semin Liver Dis 30:52; Llovet & Lencioni 2020, J Hepatol 72:288 (mRECIST).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from inference.results import ResponseCategory

PARTIAL_RESPONSE = 0.30
PROGRESSION = 0.20
PROGRESSION_MM = 5.0
NODE_NORMAL_BELOW_MM = 10.0
MEASURABLE_MM = 10.0
NODE_MEASURABLE_MM = 15.0
PORTA_HEPATIS_NODE_MEASURABLE_MM = 20.0
MAXIMUM_TARGETS = 5
MAXIMUM_TARGETS_PER_ORGAN = 2
CONFIRMATION_DAYS = 28.0
_TOLERANCE = 1e-9


class NonTarget(StrEnum):
    """State of the non-target lesions."""

    NONE = "none"
    CR = "CR"
    NON_CR_NON_PD = "non-CR/non-PD"
    PD = "PD"
    NE = "NE"


class TargetKind(StrEnum):
    """What a target lesion is: nodes are measured by their short axis."""

    LESION = "lesion"
    NODE = "node"
    PORTA_HEPATIS_NODE = "porta hepatis node"


@dataclass(frozen=True, slots=True)
class Target:
    """One target lesion at one time point.

    Attributes
    ----------
    diameter_mm : float or None
        Longest diameter (lesion) or short axis (node); 0 when it is gone, None when it could not be
        measured at this time point.
    """

    lesion_id: str
    diameter_mm: float | None
    kind: TargetKind = TargetKind.LESION
    organ: str = "liver"


@dataclass(frozen=True, slots=True)
class TargetSum:
    """Sum of diameters at one time point.

    Attributes
    ----------
    sum_mm : float
        Of those targets that were measured.
    complete : bool
        Whether every target was measured.
    gone : bool
        Whether every target is gone: 0 mm, and below 10 mm in short axis for a node.
    """

    sum_mm: float
    complete: bool
    gone: bool


# ------------------------------------------------------------------ targets


def measurable(target: Target) -> bool:
    """Whether a lesion is large enough to be a target (mRECIST's limits for nodes included)."""
    limit = {
        TargetKind.LESION: MEASURABLE_MM,
        TargetKind.NODE: NODE_MEASURABLE_MM,
        TargetKind.PORTA_HEPATIS_NODE: PORTA_HEPATIS_NODE_MEASURABLE_MM,
    }[target.kind]
    return target.diameter_mm is not None and target.diameter_mm >= limit * (1 - _TOLERANCE)


def select_targets(candidates: Iterable[Target]) -> tuple[Target, ...]:
    """Choose the target lesions: the largest, at most two in one organ and five in all.

    Equal diameters are taken in the order of their identifiers, so that the choice is reproducible.
    """
    fit = [c for c in candidates if measurable(c)]
    fit.sort(key=lambda c: (-(c.diameter_mm or 0.0), c.lesion_id))
    chosen: list[Target] = []
    for candidate in fit:
        in_organ = sum(c.organ == candidate.organ for c in chosen)
        if in_organ < MAXIMUM_TARGETS_PER_ORGAN and len(chosen) < MAXIMUM_TARGETS:
            chosen.append(candidate)
    return tuple(chosen)


def _gone(target: Target) -> bool:
    if target.diameter_mm is None:
        return False
    if target.kind is TargetKind.LESION:
        return target.diameter_mm == 0
    return target.diameter_mm < NODE_NORMAL_BELOW_MM


def sum_of_diameters(targets: Sequence[Target]) -> TargetSum:
    """Add up the diameters of one time point.

    A node that shrank to a normal size still adds its short axis, so a sum above 0 can go with a
    complete response (RECIST 1.1, section 4.3.2).

    Raises
    ------
    ValueError
        A diameter is negative or not finite.
    """
    diameters = [t.diameter_mm for t in targets if t.diameter_mm is not None]
    if any(not math.isfinite(d) or d < 0 for d in diameters):
        raise ValueError("a diameter is negative or not finite")
    return TargetSum(
        sum_mm=float(sum(diameters)),
        complete=len(diameters) == len(targets) and bool(targets),
        gone=bool(targets) and all(_gone(t) for t in targets),
    )


# ------------------------------------------------------------------ target response


def change_pct(baseline_sum_mm: float, current_sum_mm: float) -> float:
    """Change from the baseline sum in percent; negative is shrinkage.

    Raises
    ------
    ValueError
        The baseline sum is not above 0.
    """
    if not baseline_sum_mm > 0:
        raise ValueError("the baseline sum of diameters is not above 0 mm")
    return 100.0 * (current_sum_mm - baseline_sum_mm) / baseline_sum_mm


def _at_least(value: float, limit: float, scale: float) -> bool:
    return value >= limit - _TOLERANCE * scale


def _progressed(current_mm: float, nadir_mm: float, minimum_mm: float) -> bool:
    """Whether the sum rose from the nadir by a fifth, and by `minimum_mm`.

    After a sum of 0 any measurable recurrence is progression (RECIST 1.1, section 4.4.1).
    """
    if nadir_mm == 0:
        return current_mm > 0
    rise = current_mm - nadir_mm
    return _at_least(rise, PROGRESSION * nadir_mm, nadir_mm) and _at_least(rise, minimum_mm, nadir_mm)


def _unusable(value: float | None) -> bool:
    return value is None or not math.isfinite(value) or value < 0


def _target_category(
    baseline_mm: float | None,
    current: TargetSum | None,
    nadir_mm: float | None,
    minimum_mm: float,
) -> ResponseCategory:
    if baseline_mm is None or _unusable(baseline_mm) or baseline_mm == 0:
        return ResponseCategory.NE
    if current is None or _unusable(current.sum_mm) or (nadir_mm is not None and _unusable(nadir_mm)):
        return ResponseCategory.NE
    if current.gone:
        return ResponseCategory.CR
    nadir = baseline_mm if nadir_mm is None else min(baseline_mm, nadir_mm)
    if _progressed(current.sum_mm, nadir, minimum_mm):
        return ResponseCategory.PD
    if not current.complete:
        return ResponseCategory.NE
    if _at_least(baseline_mm - current.sum_mm, PARTIAL_RESPONSE * baseline_mm, baseline_mm):
        return ResponseCategory.PR
    return ResponseCategory.SD


def _whole(sum_mm: float | None, targets_gone: bool | None) -> TargetSum | None:
    if sum_mm is None:
        return None
    gone = sum_mm == 0 if targets_gone is None else targets_gone
    return TargetSum(sum_mm=sum_mm, complete=True, gone=gone)


def recist11_targets(
    baseline_mm: float | None, current: TargetSum | None, nadir_mm: float | None = None
) -> ResponseCategory:
    """Category of the target lesions by RECIST 1.1.

    Where a target could not be measured the category is NE, unless the others alone have already
    progressed (RECIST 1.1, section 4.4.2).
    """
    return _target_category(baseline_mm, current, nadir_mm, PROGRESSION_MM)


def mrecist_targets(
    baseline_mm: float | None, current: TargetSum | None, nadir_mm: float | None = None
) -> ResponseCategory:
    """Category of the target lesions by mRECIST, from viable diameters; no 5 mm rule."""
    return _target_category(baseline_mm, current, nadir_mm, 0.0)


# ------------------------------------------------------------------ overall response

_C, _N = ResponseCategory, NonTarget

OVERALL: Mapping[tuple[ResponseCategory, NonTarget], ResponseCategory] = {
    (_C.CR, _N.NONE): _C.CR,
    (_C.CR, _N.CR): _C.CR,
    (_C.CR, _N.NON_CR_NON_PD): _C.PR,
    (_C.CR, _N.NE): _C.PR,
    (_C.PR, _N.NONE): _C.PR,
    (_C.PR, _N.CR): _C.PR,
    (_C.PR, _N.NON_CR_NON_PD): _C.PR,
    (_C.PR, _N.NE): _C.PR,
    (_C.SD, _N.NONE): _C.SD,
    (_C.SD, _N.CR): _C.SD,
    (_C.SD, _N.NON_CR_NON_PD): _C.SD,
    (_C.SD, _N.NE): _C.SD,
    (_C.NE, _N.NONE): _C.NE,
    (_C.NE, _N.CR): _C.NE,
    (_C.NE, _N.NON_CR_NON_PD): _C.NE,
    (_C.NE, _N.NE): _C.NE,
}
"""Target x non-target without new lesions, RECIST 1.1 table 1; progression anywhere is PD."""


def overall_category(
    targets: ResponseCategory, non_target: NonTarget = NonTarget.NONE, *, new_lesions: bool = False
) -> ResponseCategory:
    """Overall category of one time point, from targets, non-targets and new lesions."""
    if new_lesions or non_target is NonTarget.PD or targets is ResponseCategory.PD:
        return ResponseCategory.PD
    return OVERALL[targets, non_target]


def recist11_category(
    baseline_sum_mm: float | None,
    current_sum_mm: float | None,
    nadir_sum_mm: float | None = None,
    new_lesions: bool = False,
    *,
    non_target: NonTarget = NonTarget.NONE,
    targets_gone: bool | None = None,
) -> ResponseCategory:
    """Overall RECIST 1.1 category from sums of diameters in mm.

    Parameters
    ----------
    baseline_sum_mm, current_sum_mm : float or None
        None, NaN, or a baseline of 0: not evaluable.
    nadir_sum_mm : float, optional
        Smallest sum before this time point; the baseline itself when not given.
    new_lesions : bool
        Whether an unequivocal new lesion has appeared.
    targets_gone : bool, optional
        Whether all targets are gone; when not given, whether the sum is 0. With lymph nodes it must
        be given: `sum_of_diameters` says it.

    Returns
    -------
    ResponseCategory
    """
    current = _whole(current_sum_mm, targets_gone)
    targets = recist11_targets(baseline_sum_mm, current, nadir_sum_mm)
    return overall_category(targets, non_target, new_lesions=new_lesions)


def mrecist_category(
    baseline_sum_mm: float | None,
    current_sum_mm: float | None,
    nadir_sum_mm: float | None = None,
    new_lesions: bool = False,
    *,
    non_target: NonTarget = NonTarget.NONE,
    targets_gone: bool | None = None,
) -> ResponseCategory:
    """Overall mRECIST category from sums of viable diameters in mm.

    Parameters are those of `recist11_category`. A new lesion is one of at least 10 mm with the
    vascular pattern of carcinoma, or one that grew by at least 10 mm: see `is_new_hcc`.
    """
    current = _whole(current_sum_mm, targets_gone)
    targets = mrecist_targets(baseline_sum_mm, current, nadir_sum_mm)
    return overall_category(targets, non_target, new_lesions=new_lesions)


def is_new_hcc(diameter_mm: float, growth_mm: float, *, typical_pattern: bool) -> bool:
    """Whether a newly seen nodule counts as a new lesion in mRECIST.

    At least 10 mm with arterial enhancement and washout, or at least 10 mm and at least 10 mm of
    growth on later images (Lencioni & Llovet 2010).
    """
    large = _at_least(diameter_mm, MEASURABLE_MM, MEASURABLE_MM)
    return large and (typical_pattern or _at_least(growth_mm, MEASURABLE_MM, MEASURABLE_MM))


# ------------------------------------------------------------------ over time


def best_confirmed(assessments: Sequence[tuple[float, ResponseCategory]]) -> ResponseCategory:
    """Best overall response with confirmation of CR and PR at least 28 days later.

    Parameters
    ----------
    assessments : sequence of (day, category)
        Ascending in time. What follows progression is not looked at.

    Returns
    -------
    ResponseCategory
        An unconfirmed CR or PR counts as SD (RECIST 1.1, table 3); NE when nothing was evaluable.
    """
    seen: list[tuple[float, ResponseCategory]] = []
    for day, category in assessments:
        seen.append((day, category))
        if category is ResponseCategory.PD:
            break
    for wanted, confirming in (
        (ResponseCategory.CR, {ResponseCategory.CR}),
        (ResponseCategory.PR, {ResponseCategory.CR, ResponseCategory.PR}),
    ):
        days = [day for day, category in seen if category in confirming]
        if days and days[-1] - days[0] >= CONFIRMATION_DAYS:
            return wanted
    categories = {category for _, category in seen}
    if categories & {ResponseCategory.CR, ResponseCategory.PR, ResponseCategory.SD}:
        return ResponseCategory.SD
    return ResponseCategory.PD if ResponseCategory.PD in categories else ResponseCategory.NE
