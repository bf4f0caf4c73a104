"""One patient of a site: studies read, follow-ups registered and paired, response measured, crops written.

Volumes, diameters and response are measured on each study's own grid, never on resampled images. A
follow-up that cannot be used is left out with its reason, and a patient without any is left out too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import Field

from inference.case import Phase
from inference.errors import InferenceError, RejectedInput, TrainingDataError
from inference.imaging.phase_evidence import PhaseReader
from inference.imaging.resampling import aligned_grid, nearest_label, share_of
from inference.models.protocols import Segmenter
from inference.results import (
    Grid,
    Labels,
)
from inference.settings import Frozen, SegmentationLimits
from inference.training.cohort import NO_VALUE, FollowUpImages, PatientImages, write_images
from inference.training.crop_volumes import tissue_ml
from inference.training.pairing import Pairing, pair_lesions, renumbered
from inference.training.registration import Mapping as SpaceMapping
from inference.training.registration import RegistrationSettings, register
from inference.training.registration_quality import RegistrationLimits, RegistrationQuality
from inference.training.site_archive import DAYS_PER_MONTH, MatchedPatient, MatchedStudy
from inference.training.site_crops import Crop, crop_grid, crop_study, liver_share
from inference.training.site_reading import (
    ReadStudy,
    common_phase,
    read_study,
    read_without_tumour,
    tracked_pairs,
)
from inference.training.site_rows import (
    FollowUp,
    lesion_ml,
    measured_lesions,
    months_of,
    outcome_rows,
    patient_row,
)

PHASES: Mapping[str, tuple[Phase, ...]] = {
    "CT": (Phase.ARTERIAL, Phase.PORTAL_VENOUS),
    "MR": (Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS, Phase.T2),
}
"""Image channels of a cohort of each modality."""

_PAIRING_MM = 2.0
_SMALL_ML = 0.5
"""Differences of lesion volume below this are no failure of the resampling."""


class SiteLimits(Frozen):
    """What a patient and a follow-up must be like to be used."""

    baseline_within_days: float = Field(90.0, gt=0, description="before the start of treatment")
    follow_up_within_months: float = Field(24.0, gt=0, description="after it")
    segmentation: SegmentationLimits = SegmentationLimits()
    registration: RegistrationLimits = RegistrationLimits()


class SiteSettings(Frozen):
    """How patients are prepared."""

    modality: str = Field("CT", pattern="^(CT|MR)$")
    limits: SiteLimits = SiteLimits()
    registration: RegistrationSettings = RegistrationSettings()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """Image channels."""
        return PHASES[self.modality]


@dataclass(frozen=True, slots=True)
class LeftOutRow:
    """A study that was not used, by its row, and why."""

    row: int
    patient_id: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class PairPicture:
    """One slice of a pair, (y, x): images as in a crop, liver and tumours as bytes."""

    before: np.ndarray
    after: np.ndarray
    liver: Labels
    tumour_before: Labels
    tumour_after: Labels


@dataclass(frozen=True, slots=True)
class PairReport:
    """How well one follow-up was registered.

    Attributes
    ----------
    lesion_volume_ratio : float
        Lesion volume of the resampled follow-up over that on its own grid; NaN without lesions.
    failures : reasons for which it was left out
    """

    patient_id: str
    row: int
    months: float
    quality: RegistrationQuality
    lesion_volume_ratio: float
    new_lesions: int
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    picture: PairPicture


@dataclass(frozen=True, slots=True)
class PreparedPatient:
    """What one patient gives; `row` is None when the patient was left out."""

    patient_id: str
    row: Mapping[str, object] | None
    outcomes: tuple[Mapping[str, object], ...]
    pairs: tuple[PairReport, ...]
    left_out: tuple[LeftOutRow, ...]


@dataclass(frozen=True, slots=True)
class PatientTask:
    """Everything that the preparation of one patient needs; can be sent to another process."""

    patient: MatchedPatient
    patient_id: str
    segmenter: Segmenter
    settings: SiteSettings
    folder: Path
    reader: PhaseReader | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """Lesions seen so far, on a grid of the baseline."""

    grid: Grid
    lesion: Labels
    highest: int


@dataclass(slots=True)
class _Progress:
    """What has been found while the follow-ups are gone through."""

    known: _Known
    kept: list[FollowUp] = field(default_factory=list)
    pairs: list[PairReport] = field(default_factory=list)
    left_out: list[LeftOutRow] = field(default_factory=list)


def prepare_patient(task: PatientTask) -> PreparedPatient:
    """Prepare one patient; whatever cannot be used comes back with its reason."""
    patient = task.patient
    unused = [
        LeftOutRow(m.row.row, task.patient_id, "study", "an earlier study than the baseline")
        for m in patient.unused
    ]
    try:
        baseline = _read_baseline(task)
        target = crop_grid(baseline)
        first = crop_study(baseline, baseline.lesions_in_full(), task.settings.phases, target)
    except InferenceError as error:
        row = LeftOutRow(patient.baseline.row.row, task.patient_id, "patient", f"baseline: {error}")
        return PreparedPatient(task.patient_id, None, (), (), (*unused, row))
    found = _Progress(_known_at(baseline, task.settings), left_out=unused)
    for matched in patient.follow_ups:
        try:
            _add_follow_up(task, baseline, first, target, matched, found)
        except InferenceError as error:
            found.left_out.append(LeftOutRow(matched.row.row, task.patient_id, "follow-up", str(error)))
    if not found.kept:
        reason = "no follow-up can be used"
        found.left_out.append(LeftOutRow(patient.baseline.row.row, task.patient_id, "patient", reason))
        return PreparedPatient(task.patient_id, None, (), tuple(found.pairs), tuple(found.left_out))
    _write(task, baseline, first, target, found.kept)
    return PreparedPatient(
        task.patient_id,
        patient_row(task.patient_id, patient.rows, baseline),
        tuple(outcome_rows(task.patient_id, patient.rows.regimen_id, baseline, found.kept)),
        tuple(found.pairs),
        tuple(found.left_out),
    )


# ------------------------------------------------------------------ reading


def _read_baseline(task: PatientTask) -> ReadStudy:
    patient, limit = task.patient, task.settings.limits.baseline_within_days
    days = -patient.baseline.months * DAYS_PER_MONTH
    if days > limit + 1e-6:
        raise RejectedInput(f"it is {days:.0f} days before the start of treatment (at most {limit:.0f})")
    study = _read(task, patient.baseline)
    if not study.segmentation.lesions:
        raise RejectedInput("no tumour was found")
    return study


def _read(task: PatientTask, matched: MatchedStudy) -> ReadStudy:
    files, clinical = matched.study.files, task.patient.rows.clinical
    limits = task.settings.limits.segmentation
    if matched.row.no_tumour_left:
        study = read_without_tumour(files, clinical, limits, task.reader)
    else:
        study = read_study(files, clinical, task.segmenter, limits, task.reader)
    modality, phases = study.baseline.primary.modality, task.settings.phases
    if modality != task.settings.modality:
        raise RejectedInput(f"the study is {modality}, and the cohort is of {task.settings.modality}")
    if not any(study.baseline.phase(p) for p in phases):
        raise RejectedInput(f"none of the phases {', '.join(phases)} is in the study")
    return study


# ------------------------------------------------------------------ one follow-up


def _known_at(baseline: ReadStudy, settings: SiteSettings) -> _Known:
    """Return the baseline's lesions on a grid that holds all of its images."""
    grid = baseline.baseline.primary.grid
    corners = grid.to_patient([[k >> a & 1 and grid.shape[a] - 1 for a in range(3)] for k in range(8)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    organ = grid.to_patient(np.argwhere(baseline.organ()))
    margin = settings.registration.margin_mm
    low = np.maximum(low, organ.min(axis=0) - margin)
    high = np.minimum(high, organ.max(axis=0) + margin)
    x, y, z = (int(np.ceil(e / _PAIRING_MM)) + 1 for e in high - low)
    aligned = aligned_grid((low + high) / 2.0, (z, y, x), _PAIRING_MM, grid.frame_of_reference_uid)
    lesion = baseline.lesions_in_full()
    return _Known(aligned, _lesions_on(aligned, grid, lesion, None), int(lesion.max()))


def _lesions_on(target: Grid, source: Grid, lesion: Labels, mapping: SpaceMapping | None) -> Labels:
    mapped = None if mapping is None else mapping.on(target)
    present = share_of(lesion > 0, source, target, mapped) > 0.0
    return np.where(present, nearest_label(lesion, source, target, mapped), 0).astype(np.uint8)


def _add_follow_up(
    task: PatientTask,
    baseline: ReadStudy,
    first: Crop,
    target: Grid,
    matched: MatchedStudy,
    found: _Progress,
) -> None:
    settings = task.settings
    limit = settings.limits.follow_up_within_months
    if matched.months > limit:
        raise RejectedInput(f"it is {matched.months:.1f} months after the start (at most {limit:g})")
    study = _read(task, matched)
    phases = common_phase(baseline.baseline, study.baseline)
    if phases is None:
        raise RejectedInput("baseline and follow-up have no phase in common to be registered")
    volume, volume_later = phases
    result = register(
        baseline.for_registration(volume), study.for_registration(volume_later), settings.registration
    )
    own = study.baseline.primary.grid
    lesion = study.lesions_in_full()
    there = _lesions_on(found.known.grid, own, lesion, result.mapping)
    certain = tracked_pairs(baseline.segmentation, study.segmentation)
    pairing = pair_lesions(
        found.known.lesion, there, found.known.grid.spacing_mm, certain, found.known.highest
    )
    lost = set(np.unique(lesion).tolist()) - {0} - set(pairing.numbers)
    if lost:
        raise TrainingDataError(f"{len(lost)} lesion(s) lie outside the images of the baseline")
    numbered = renumbered(lesion, pairing.numbers)
    crop = crop_study(study, numbered, settings.phases, target, result.mapping.on(target))
    ratio, wrong = _volume_kept(study, crop, settings.limits.registration)
    failures = (*result.quality.failures(settings.limits.registration), *wrong)
    found.pairs.append(
        PairReport(
            task.patient_id,
            matched.row.row,
            matched.months,
            result.quality,
            ratio,
            len(pairing.new),
            failures,
            (*study.warnings, *_notes(pairing)),
            _picture(first, crop, liver_share(baseline, target)),
        )
    )
    if failures:
        raise TrainingDataError("; ".join(failures))
    _keep(
        found,
        FollowUp(matched, study, numbered, crop, pairing, measured_lesions(baseline, study, numbered)),
        there,
    )


def _keep(found: _Progress, follow_up: FollowUp, there: Labels) -> None:
    """Add a follow-up, and its new lesions to those that are known to the next."""
    found.kept.append(follow_up)
    known, new = found.known, follow_up.pairing.new
    numbered = renumbered(there, follow_up.pairing.numbers)
    added = np.isin(numbered, new) & (known.lesion == 0)
    lesion = np.where(added, numbered, known.lesion).astype(np.uint8)
    found.known = _Known(known.grid, lesion, max(known.highest, *new, 0))


def _notes(pairing: Pairing) -> tuple[str, ...]:
    notes = []
    if pairing.coalesced:
        names = ", ".join(f"L{n}" for n in pairing.coalesced)
        notes.append(f"{names} grew together with another lesion and are measured as part of it.")
    parts = len(pairing.numbers) - len(set(pairing.numbers.values()))
    if parts:
        notes.append(f"{parts} more part(s) than lesions: a lesion in pieces is measured by its largest.")
    return tuple(notes)


def _volume_kept(study: ReadStudy, crop: Crop, limits: RegistrationLimits) -> tuple[float, tuple[str, ...]]:
    """Compare the lesion volume of the crop with that on the study's own grid."""
    own = sum(lesion_ml(study).values())
    resampled_ml = float(tissue_ml(crop.fractions).sum())
    if own == 0.0:
        return float("nan"), ()
    ratio = resampled_ml / own
    if abs(ratio - 1.0) <= limits.lesion_volume_within or abs(resampled_ml - own) <= _SMALL_ML:
        return ratio, ()
    reason = (
        f"the resampled images hold {ratio:.0%} of the lesion volume measured on the follow-up itself "
        f"(within {limits.lesion_volume_within:.0%}): lesions lie outside the crop, or were deformed"
    )
    return ratio, (reason,)


def _picture(first: Crop, later: Crop, liver: Labels) -> PairPicture:
    """Take the slice with most tumour at baseline, of a phase that both have."""
    k = int(np.argmax(first.fractions.sum(axis=(0, 2, 3), dtype=np.int64)))
    seen = [
        (a[k] > NO_VALUE).mean() * (b[k] > NO_VALUE).mean()
        for a, b in zip(first.images, later.images, strict=True)
    ]
    channel = len(seen) - 1 - int(np.argmax(seen[::-1]))
    shares = [
        np.minimum(c.fractions[:, k].sum(axis=0, dtype=np.int32), 255).astype(np.uint8)
        for c in (first, later)
    ]
    return PairPicture(first.images[channel, k], later.images[channel, k], liver[k], *shares)


# ------------------------------------------------------------------ what is written


def _write(
    task: PatientTask, baseline: ReadStudy, first: Crop, target: Grid, kept: Sequence[FollowUp]
) -> None:
    regimen = task.patient.rows.regimen_id
    follow_ups = tuple(
        FollowUpImages(regimen, months_of(f), f.crop.images, f.crop.fractions, f.crop.lesion) for f in kept
    )
    liver = liver_share(baseline, target)
    images = PatientImages(
        task.patient_id, first.images, None, liver, first.fractions, first.lesion, follow_ups
    )
    write_images(task.folder, images)
