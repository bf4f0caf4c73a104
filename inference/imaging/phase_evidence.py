"""Weighing what the attributes, the images and the times of the series of one study say of their phases.

Each source gives every phase a weight. A description that names a phase is trusted to `trust` of its
finding, the rest spread over the other phases; images give the probabilities of a classifier, none of
them less than `IMAGE_FLOOR`, because it has not seen all that there is. The series of one study come
in the order of time, some seconds apart: their phases are weighed together (forward-backward, Rabiner
1989, Proc IEEE 77:257). What is below `DECIDED` after that is unknown, and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.imaging.phase import PhaseFinding, acquired_at_s, attribute_phase
from inference.imaging.phase_features import PHASES
from inference.results import BundleInfo, FloatArray, Grid, Voxels

DECIDED = 0.8
"""Probability from which a phase is told."""

IMAGE_FLOOR = 0.004
"""Least probability that an image leaves a phase: the most an image can weigh is 1 to 250."""

GAPS_S: Mapping[tuple[int, int], tuple[float, float]] = {
    # Steps in time (0 native, 1 arterial, 2 portal venous, 3 delayed): usual seconds between two series.
    (0, 1): (15.0, 3600.0),
    (0, 2): (35.0, 3600.0),
    (0, 3): (120.0, 7200.0),
    (1, 2): (12.0, 90.0),
    (1, 3): (90.0, 2400.0),
    (2, 3): (45.0, 2400.0),
}
ONE_ACQUISITION_S = 5.0
"""Series that begin nearer to each other than this were reconstructed from one acquisition."""

_UNUSUAL = 0.08
_SAME = 0.08
_BACKWARDS = 0.02
_STEPS: Mapping[Phase, int] = {
    Phase.NATIVE: 0,
    Phase.ARTERIAL: 1,
    Phase.PORTAL_VENOUS: 2,
    Phase.DELAYED: 3,
    Phase.T1: 0,
    Phase.T1_ARTERIAL: 1,
    Phase.T1_PORTAL_VENOUS: 2,
}


class PhaseReader(Protocol):
    """Tells phases from images; phases are equally likely before it looked."""

    @property
    def info(self) -> BundleInfo:
        """Name, version, digest and what the reader was trained on."""
        ...

    def from_organs(self, organs: Mapping[str, float], modality: str) -> Mapping[Phase, float] | None:
        """Return the probability of each phase from organ values, or None where too few are known."""
        ...

    def from_image(self, values: Voxels, grid: Grid, modality: str) -> Mapping[Phase, float] | None:
        """Return the probability of each phase from a volume, or None where it shows too little."""
        ...


@dataclass(frozen=True, slots=True)
class SeriesEvidence:
    """What is known of one series.

    Attributes
    ----------
    attributes : PhaseFinding
    image : mapping or None
        Probabilities of a `PhaseReader`.
    image_source : str
        What was looked at, such as "organ values", for the sentence.
    acquired_s : float or None
        Acquisition time in seconds.
    """

    modality: str
    attributes: PhaseFinding
    image: Mapping[Phase, float] | None = None
    image_source: str = "the image"
    acquired_s: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The phase of one series after all was weighed.

    Attributes
    ----------
    probability : of `phase`; of the likeliest phase where it is unknown
    warning : what people must be told, or an empty string
    """

    phase: Phase
    evidence: str
    probability: float
    warning: str = ""


def evidence_of(headers: Sequence[Dataset], modality: str) -> SeriesEvidence:
    """Return what the attributes of the slices of one series say."""
    times = [t for t in map(acquired_at_s, headers) if t is not None]
    return SeriesEvidence(
        modality, attribute_phase(headers[0], modality), acquired_s=min(times) if times else None
    )


def settle(series: Sequence[SeriesEvidence]) -> tuple[Settled, ...]:
    """Weigh all that is known of the series of one study, and say what each is.

    Parameters
    ----------
    series : sequence of SeriesEvidence
        Any order; CT and MR are weighed apart.
    """
    alone = [_weights(s) for s in series]
    shares = list(alone)
    for modality in PHASES:
        _weigh_in_time(series, shares, modality)
    return tuple(_settled(s, p, a) for s, p, a in zip(series, shares, alone, strict=True))


def _weights(series: SeriesEvidence) -> FloatArray:
    phases = PHASES[series.modality]
    weights = _attribute_weights(series.attributes, phases)
    if series.image is not None:
        seen = np.array([series.image.get(p, 0.0) for p in phases])
        weights = weights * np.maximum(seen, IMAGE_FLOOR)
    return np.asarray(weights / weights.sum())


def _attribute_weights(found: PhaseFinding, phases: tuple[Phase, ...]) -> FloatArray:
    candidates = [found.phase] if found.phase in phases else [p for p in found.candidates if p in phases]
    if not candidates or len(candidates) == len(phases):
        return np.full(len(phases), 1.0 / len(phases))
    rest = (1.0 - found.trust) / (len(phases) - len(candidates))
    return np.array([found.trust / len(candidates) if p in candidates else rest for p in phases])


# ------------------------------------------------------------------ time


@dataclass(frozen=True, slots=True)
class _Acquisition:
    """Series that were reconstructed from one acquisition, by their place in the study."""

    time_s: float
    members: tuple[int, ...]


def _acquisitions(series: Sequence[SeriesEvidence], usable: Sequence[int]) -> list[_Acquisition]:
    """Return the acquisitions in the order of time; none where times tell different phases apart badly."""
    found: list[_Acquisition] = []
    for time, k in sorted((series[k].acquired_s or 0.0, k) for k in usable):
        if found and time - found[-1].time_s < ONE_ACQUISITION_S:
            found[-1] = _Acquisition(found[-1].time_s, (*found[-1].members, k))
        else:
            found.append(_Acquisition(time, (k,)))
    named = [{series[k].attributes.phase for k in a.members} - {Phase.UNKNOWN} for a in found]
    return found if all(len(phases) < 2 for phases in named) else []


def _weigh_in_time(series: Sequence[SeriesEvidence], shares: list[FloatArray], modality: str) -> None:
    """Replace shares by those that also rest on the order and the intervals of acquisition."""
    phases = PHASES[modality]
    usable = [
        k
        for k, s in enumerate(series)
        if s.modality == modality and s.acquired_s is not None and not _is_t2(shares[k], phases)
    ]
    found = _acquisitions(series, usable)
    if len(found) < 2:
        return
    own = [_normalised(np.prod([shares[k] for k in a.members], axis=0)) for a in found]
    steps = [_transition(phases, b.time_s - a.time_s) for a, b in zip(found[:-1], found[1:], strict=True)]
    forward = [own[0]]
    for step, share in zip(steps, own[1:], strict=True):
        forward.append(_normalised((forward[-1] @ step) * share))
    backward = [np.ones(len(phases))]
    for step, share in zip(reversed(steps), reversed(own[1:]), strict=True):
        backward.append(_normalised(step @ (backward[-1] * share)))
    for acquisition, f, b in zip(found, forward, reversed(backward), strict=True):
        for k in acquisition.members:
            shares[k] = _normalised(f * b)


def _is_t2(share: FloatArray, phases: tuple[Phase, ...]) -> bool:
    return Phase.T2 in phases and share[phases.index(Phase.T2)] > 0.5


def _transition(phases: tuple[Phase, ...], gap_s: float) -> FloatArray:
    return np.array([[_step_weight(a, b, gap_s) for b in phases] for a in phases])


def _step_weight(a: Phase, b: Phase, gap_s: float) -> float:
    if a not in _STEPS or b not in _STEPS:
        return 1.0
    first, second = _STEPS[a], _STEPS[b]
    if first == second:
        return _SAME
    if first > second:
        return _BACKWARDS
    low, high = GAPS_S[first, second]
    return 1.0 if low <= gap_s <= high else _UNUSUAL


def _normalised(weights: FloatArray) -> FloatArray:
    return np.asarray(weights / max(float(weights.sum()), 1e-300))


# ------------------------------------------------------------------ words


def _settled(series: SeriesEvidence, shares: FloatArray, alone: FloatArray) -> Settled:
    """Say what a series is by its shares; `alone` are those without the other series."""
    phases = PHASES[series.modality]
    best = int(np.argmax(shares))
    phase, share = phases[best], float(shares[best])
    said, seen = series.attributes, _seen(series)
    named = said.phase in phases
    if named and series.image is None:
        return Settled(said.phase, said.evidence, float(shares[phases.index(said.phase)]))
    if named and said.phase is phase and share >= DECIDED:
        return Settled(phase, _joined(said.evidence, seen), share)
    if share < DECIDED:
        return _unknown(said, seen, share, named)
    order = "With the order of the acquisitions c" if alone[best] < DECIDED else "C"
    evidence = _joined(said.evidence, seen, f"{order}oncluded to be {_name(phase)} ({_percent(share)}).")
    warning = f"A series is not what its attributes say. {evidence}" if named else ""
    return Settled(phase, evidence, share, warning)


def _unknown(said: PhaseFinding, seen: str, share: float, named: bool) -> Settled:
    if named:
        evidence = _joined(said.evidence, seen, "Unknown: these do not agree.")
        return Settled(Phase.UNKNOWN, evidence, share, f"A contrast phase could not be told. {evidence}")
    reason = "Unknown: this does not tell the phase." if seen else ""
    return Settled(Phase.UNKNOWN, _joined(said.evidence, seen, reason), share)


def _seen(series: SeriesEvidence) -> str:
    if series.image is None:
        return ""
    share, phase = max((share, phase) for phase, share in series.image.items())
    return f"By {series.image_source} it looks {_name(phase)} ({_percent(share)})."


def _joined(*sentences: str) -> str:
    return " ".join(s for s in sentences if s)


def _name(phase: Phase) -> str:
    return str(phase.value).replace("_", " ")


def _percent(share: float) -> str:
    return f"{100.0 * share:.0f} %" if share < 0.995 else "over 99 %"


def with_image(
    series: SeriesEvidence, image: Mapping[Phase, float] | None, image_source: str
) -> SeriesEvidence:
    """Return the evidence with what an image says; unchanged where it says nothing."""
    return series if image is None else replace(series, image=image, image_source=image_source)
