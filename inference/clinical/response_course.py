"""Classify the time points of one course of treatment by RECIST 1.1 and by mRECIST.

`inference.clinical.response` holds the criteria; here they are applied to lesions that were measured at
baseline and at each time point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from inference.clinical.response import (
    MEASURABLE_MM,
    NonTarget,
    Target,
    change_pct,
    mrecist_category,
    recist11_category,
    select_targets,
)
from inference.imaging.attributes import number
from inference.imaging.geometry import slice_distance_mm
from inference.results import LesionMeasurement, NotAssessed, Reason, Response, ResponseCategory, SeriesVolume

THICK_SLICE_MM = 5.0
"""Above this slice thickness a target must be at least twice as long as the slices are thick."""


def smallest_target_mm(volume: SeriesVolume) -> float:
    """Return the diameter from which a lesion can be a target on these images.

    10 mm, or twice the slice thickness where slices are thicker than 5 mm (RECIST 1.1, section 3.1).
    """
    thickness = number(volume.headers[0], "SliceThickness") or slice_distance_mm(volume.grid.affine)
    return MEASURABLE_MM if thickness <= THICK_SLICE_MM else max(MEASURABLE_MM, 2 * thickness)


def classify_recist11(
    baseline: Sequence[LesionMeasurement],
    measured: Sequence[Sequence[LesionMeasurement]],
    smallest_mm: float,
) -> tuple[Response | NotAssessed, ...]:
    """Classify the time points of one course by RECIST 1.1.

    The nadir is the smallest sum up to each time point, the baseline included.

    Parameters
    ----------
    measured : one entry for each time point, in the order of time
        Lesions under the identifiers of the baseline; other identifiers are new lesions.
    smallest_mm : float
        Diameter from which a lesion can be a target, see `smallest_target_mm`.
    """
    return tuple(_classify(_RECIST11, baseline, measured, smallest_mm))


def classify_mrecist(
    baseline: Sequence[LesionMeasurement],
    measured: Sequence[Sequence[LesionMeasurement]],
    smallest_mm: float,
) -> tuple[Response | NotAssessed, ...]:
    """Classify the time points of one course by mRECIST; parameters as in `classify_recist11`."""
    return tuple(_classify(_MRECIST, baseline, measured, smallest_mm))


# ------------------------------------------------------------------ one set of criteria


@dataclass(frozen=True, slots=True)
class _Criteria:
    """What one set of criteria measures on a lesion, and how it names a change."""

    name: str
    diameter_mm: Callable[[LesionMeasurement], float]
    category: Callable[..., ResponseCategory]


def _whole(lesion: LesionMeasurement) -> float:
    return 0.0 if lesion.long_axis is None else lesion.long_axis.length_mm


def _viable(lesion: LesionMeasurement) -> float:
    return 0.0 if lesion.viable_long_axis is None else lesion.viable_long_axis.length_mm


_RECIST11 = _Criteria("RECIST 1.1", _whole, recist11_category)
_MRECIST = _Criteria("mRECIST", _viable, mrecist_category)


def _classify(
    criteria: _Criteria,
    baseline: Sequence[LesionMeasurement],
    measured: Sequence[Sequence[LesionMeasurement]],
    smallest_mm: float,
) -> list[Response | NotAssessed]:
    """Classify the time points of one course, which are in the order of time."""
    diameters = {lesion.lesion_id: criteria.diameter_mm(lesion) for lesion in baseline}
    fit = [Target(i, d) for i, d in diameters.items() if d >= smallest_mm]
    targets = tuple(t.lesion_id for t in select_targets(fit))
    if not targets:
        detail = f"no lesion reaches the {smallest_mm:.0f} mm that a {criteria.name} target needs"
        return [NotAssessed(Reason.NOTHING_MEASURABLE, detail)] * len(measured)
    others = [i for i, d in diameters.items() if i not in targets and d > 0]
    first = nadir = sum(diameters[i] for i in targets)
    responses: list[Response | NotAssessed] = []
    for lesions in measured:
        now = {lesion.lesion_id: criteria.diameter_mm(lesion) for lesion in lesions}
        total = sum(now.get(i, 0.0) for i in targets)
        category = criteria.category(
            first,
            total,
            nadir,
            _has_new(now, diameters),
            non_target=_non_target(now, others),
        )
        responses.append(Response(category, total, change_pct(first, total), targets))
        nadir = min(nadir, total)
    return responses


def _has_new(now: dict[str, float], at_baseline: Iterable[str]) -> bool:
    """Whether a lesion of measurable size is there that was not at baseline."""
    return any(d >= MEASURABLE_MM for i, d in now.items() if i not in set(at_baseline))


def _non_target(now: dict[str, float], others: Sequence[str]) -> NonTarget:
    """Presence is all that is told of non-targets: unequivocal progression is a reader's judgement."""
    if not others:
        return NonTarget.NONE
    return NonTarget.NON_CR_NON_PD if any(now.get(i, 0.0) > 0 for i in others) else NonTarget.CR
