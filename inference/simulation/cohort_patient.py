"""One patient of a simulated cohort: who it is, its tumours under every regimen, its images and its rows.

A patient depends on the request and its own number alone: the same patient comes whatever the size of
the cohort or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from pydantic import Field

from inference.case import Phase
from inference.errors import TrainingDataError
from inference.randomness import RandomStreams
from inference.settings import Frozen, Regimen
from inference.simulation.cohort_images import Acquired, acquire
from inference.simulation.course import MONTHS, Course, FollowUp
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.latents import Person, draw_person
from inference.simulation.parameters import SimulationParameters, parameters_digest
from inference.simulation.survival import Assessment, Fate, Outcome, assess, best_response, outcome
from inference.simulation.tumours import build_disease
from inference.training.cohort import FollowUpImages, Origin, PatientImages, Split

PHASES: Mapping[str, tuple[Phase, ...]] = {
    "CT": (Phase.ARTERIAL, Phase.PORTAL_VENOUS),
    "MR": (Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS, Phase.T2),
}
"""Channels of the crops of each modality."""

ARMS: tuple[tuple[str, str], ...] = (
    ("seed004_tace", "tace"),
    ("seed004_haic", "haic"),
    ("seed004_tc", "tace_systemic"),
    ("seed004_hc", "haic_systemic"),
    ("launch", "tace_lenvatinib"),
    ("leap012", "tace_lenvatinib_pembrolizumab"),
    ("leap012", "tace"),
    ("emerald1", "tace_durvalumab_bevacizumab"),
    ("emerald1", "tace_bevacizumab_atezolizumab"),
    ("emerald1", "tace"),
    ("seed001", "tace_haic_tki_pd1"),
    ("hcc_tace_seg", "tace"),
)
"""Source of a patient and the treatment that it had; equally frequent."""

_SPLITS = (*[Split.TRAIN] * 7, Split.VALIDATION, *[Split.TEST] * 2)
_FOLLOW_UPS = 3


class Kind(StrEnum):
    """In what form patients are written."""

    COHORT = "cohort"
    DICOM = "dicom"


class Counterfactuals(StrEnum):
    """Which regimens are imaged that a patient did not have."""

    NONE = "none"
    ALL = "all"


class Request(Frozen):
    """What is wanted; everything on which a patient depends."""

    seed: int = Field(ge=0)
    modality: str = Field("CT", pattern="^(CT|MR)$")
    shifted: bool = Field(
        False, description="the other simulator and scanner; every patient is a test patient"
    )
    regimens: tuple[Regimen, ...]
    kind: Kind = Kind.COHORT
    months: tuple[float, ...] = Field((3.0, 6.0), description="follow-ups that are written as DICOM")
    counterfactuals: Counterfactuals = Field(
        Counterfactuals.NONE, description="further regimens that are written as DICOM"
    )
    parameters_sha256: str = Field(default_factory=parameters_digest)

    @property
    def name(self) -> str:
        """Name of the cohort."""
        return f"simulated {self.modality}{' shifted' if self.shifted else ''}"

    @property
    def origin(self) -> Origin:
        """Where the patients come from."""
        return Origin.SIMULATED

    @property
    def prefix(self) -> str:
        """What pseudonyms begin with."""
        return "X" if self.shifted else "S"


Acquisition = Callable[[Appearance, Split, RandomStreams], tuple[Acquired, Split]]
"""Gives a patient of a look and a wanted split the liver and its series, and the split it then has."""


@dataclass(frozen=True, slots=True)
class SimulatedPatient:
    """One patient with every counterfactual.

    Attributes
    ----------
    courses : follow-ups under each regimen; those that are imaged have a state
    """

    number: int
    patient_id: str
    split: Split
    regimen_id: str
    person: Person
    course: Course
    fate: Fate
    acquired: Acquired
    baseline: FollowUp
    courses: Mapping[str, tuple[FollowUp, ...]]
    imaged: tuple[tuple[str, float], ...]

    def state(self, regimen_id: str, months: float) -> TumourState:
        """Return the tumours at an imaged follow-up."""
        for seen in self.courses[regimen_id]:
            if seen.months == months and seen.state is not None:
                return seen.state
        raise TrainingDataError("a follow-up of a simulated patient has no state")

    def assessments(self, regimen_id: str) -> tuple[Assessment, ...]:
        """Return the response categories under a regimen."""
        return assess(self.baseline, self.courses[regimen_id])


def assignment(number: int, seed: int) -> tuple[str, str, Split]:
    """Return source, regimen and split of a patient; shuffled in blocks, so that shares hold early."""
    root = RandomStreams(seed)
    block, place = divmod(number, len(ARMS))
    source, regimen = ARMS[int(root.derive("arms", block).permutation(len(ARMS))[place])]
    block, place = divmod(number, len(_SPLITS))
    split = _SPLITS[int(root.derive("splits", block).permutation(len(_SPLITS))[place])]
    return source, regimen, split


def imaged_follow_ups(
    observed: str, regimens: Sequence[str], split: Split, rng: np.random.Generator
) -> tuple[tuple[str, float], ...]:
    """Choose the follow-ups that get images: the observed treatment and two others.

    The others fall on any month; a test patient's first counterfactual falls on the month of the
    observed one, so that the difference between two regimens can be measured.
    """
    others = [r for r in regimens if r != observed]
    chosen = [observed, *(others[int(i)] for i in rng.permutation(len(others))[: _FOLLOW_UPS - 1])]
    months = [float(rng.choice(MONTHS)) for _ in chosen]
    if split is Split.TEST:
        months[1] = months[0]
    return tuple(zip(chosen, months, strict=True))


def _imaged(
    request: Request, observed: str, split: Split, streams: RandomStreams
) -> tuple[tuple[str, float], ...]:
    names = tuple(r.id for r in request.regimens)
    if request.kind is Kind.COHORT:
        return imaged_follow_ups(observed, names, split, streams.derive("imaged"))
    wanted = (observed,) if request.counterfactuals is Counterfactuals.NONE else names
    return tuple((name, month) for name in wanted for month in request.months)


def simulate(
    number: int,
    request: Request,
    parameters: SimulationParameters,
    acquisition: Acquisition | None = None,
) -> SimulatedPatient:
    """Simulate one patient of a cohort, with tumours under every regimen and without images.

    Parameters
    ----------
    acquisition : Acquisition, optional
        Where the disease lies; in a simulated liver when absent.
    """
    source, observed, split = assignment(number, request.seed)
    split = Split.TEST if request.shifted else split
    streams = RandomStreams(int(RandomStreams(request.seed).derive("patient", number).integers(2**62)))
    person = draw_person(source, parameters, streams)
    if acquisition is None:
        acquired = acquire(person.appearance, PHASES[request.modality], request.shifted, streams)
    else:
        acquired, split = acquisition(person.appearance, split, streams)
    disease = build_disease(person, acquired.anatomy, parameters, streams)
    course = Course(person, disease, parameters, streams)
    regimens = {r.id: r for r in request.regimens}
    imaged = _imaged(request, observed, split, streams)
    courses = {
        name: course.follow(regimen, keep=[m for r, m in imaged if r == name])
        for name, regimen in regimens.items()
    }
    return SimulatedPatient(
        number=number,
        patient_id=f"{request.prefix}{number:05d}",
        split=split,
        regimen_id=observed,
        person=person,
        course=course,
        fate=Fate.draw(streams),
        acquired=acquired,
        baseline=course.baseline(),
        courses=courses,
        imaged=imaged,
    )


def images(patient: SimulatedPatient) -> PatientImages:
    """Return the crops of a patient: baseline with and without noise, and noise-free follow-ups."""
    visible = patient.course.parameters.lipiodol.visible
    acquired, look = patient.acquired, patient.person.appearance
    if patient.baseline.state is None:
        raise TrainingDataError("the baseline of a simulated patient has no state")
    noisy, clean = acquired.baseline(patient.baseline.state, look)
    fractions, lesion = acquired.tissue(patient.baseline.state, visible)
    follow_ups = []
    for regimen_id, months in patient.imaged:
        state = patient.state(regimen_id, months)
        shares, numbers = acquired.tissue(state, visible)
        follow_ups.append(
            FollowUpImages(regimen_id, months, acquired.follow_up(state, look), shares, numbers)
        )
    return PatientImages(
        patient.patient_id, noisy, clean, acquired.liver, fractions, lesion, tuple(follow_ups)
    )


# ---------------------------------------------------------------- rows


def patient_row(patient: SimulatedPatient, regimens: Mapping[str, Regimen]) -> dict[str, object]:
    """Return the row of ``patients.csv``; missing clinical values are None."""
    person = patient.person
    base = patient.baseline
    recorded = person.recorded | {
        "tumour_number": len(base.lesions),
        "largest_tumour": round(max(v.whole_mm for v in base.lesions), 1),
    }
    fates = {r: _fate(patient, regimens[r]) for r in patient.courses}
    seen = fates[patient.regimen_id]
    clinical = {
        name: (int(value) if isinstance(value, bool) else value) if name in recorded else None
        for name, value in {**person.clinical, **recorded}.items()
    }
    return {
        "patient_id": patient.patient_id,
        "centre": person.source,
        "split": str(patient.split),
        "regimen_id": patient.regimen_id,
        "baseline_viable_ml": round(base.viable_ml, 3),
        "baseline_total_ml": round(base.viable_ml + sum(v.necrosis_ml for v in base.lesions), 3),
        "liver_ml": round(patient.acquired.liver_ml, 1),
        "os_months": round(seen.os_months, 3),
        "os_event": int(seen.os_event),
        "pfs_months": round(seen.pfs_months, 3),
        "pfs_event": int(seen.pfs_event),
        **clinical,
        **_latents(patient),
        **{f"latent_death_months_{r}": round(f.death_months, 3) for r, f in fates.items()},
        **{f"latent_progression_months_{r}": round(f.progression_months, 3) for r, f in fates.items()},
        **{f"latent_best_response_{r}": str(best_response(patient.assessments(r))) for r in patient.courses},
    }


def _fate(patient: SimulatedPatient, regimen: Regimen) -> Outcome:
    return outcome(
        patient.course,
        patient.fate,
        regimen,
        patient.baseline,
        patient.courses[regimen.id],
        patient.assessments(regimen.id),
    )


def _latents(patient: SimulatedPatient) -> dict[str, object]:
    person, luck = patient.person, patient.course.luck
    look = person.appearance
    values = {
        "aggressiveness": person.latents.aggressiveness,
        "vascularity": person.latents.vascularity,
        "liver_reserve": person.latents.liver_reserve,
        "immunogenicity": person.latents.immunogenicity,
        "tvdt_months": person.plan.tvdt_months,
        "infiltrative": person.plan.infiltrative,
        "necrosis_share": person.plan.necrosis_share,
        "arterial_contrast_hu": look.arterial_contrast_hu,
        "portal_contrast_hu": look.portal_contrast_hu,
        "mosaic_hu": look.mosaic_hu,
        "capsule_strength": look.capsule,
        "luck_shared": luck.shared,
        "luck_control": luck.control,
        "frailty": patient.fate.frailty,
        **{f"luck_{name}": value for name, value in luck.own.items()},
        **patient.acquired.traits,
    }
    return {f"latent_{name}": round(value, 4) for name, value in values.items()}


def outcome_rows(patient: SimulatedPatient) -> list[dict[str, object]]:
    """Return the rows of ``outcomes.csv``: every regimen at every month."""
    rows: list[dict[str, object]] = []
    for regimen_id, follow_ups in patient.courses.items():
        for seen, judged in zip(follow_ups, patient.assessments(regimen_id), strict=True):
            rows.append(
                {
                    "patient_id": patient.patient_id,
                    "regimen_id": regimen_id,
                    "months": seen.months,
                    "observed": int(regimen_id == patient.regimen_id),
                    "imaged": int((regimen_id, seen.months) in patient.imaged),
                    "viable_ml": round(seen.viable_ml, 3),
                    "necrosis_ml": round(sum(v.necrosis_ml for v in seen.lesions) + seen.dead_thrombus_ml, 3),
                    "lipiodol_ml": round(sum(v.lipiodol_ml for v in seen.lesions), 3),
                    "new_lesions": len(seen.new),
                    "recist11": str(judged.recist11),
                    "mrecist": str(judged.mrecist),
                    "whole_mm": round(judged.whole_mm, 2),
                    "viable_mm": round(judged.viable_mm, 2),
                }
            )
    return rows
