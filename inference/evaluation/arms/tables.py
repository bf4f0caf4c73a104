"""The patients of one evaluation as the arms see them, from the start of treatment or from a landmark.

A real follow-up exists only of patients who lived to have it. So the arm that uses one is measured on
patients who were alive and under observation when it was made, from then on, and so is every arm beside
it: all arms of a table are about the same patients and the same time. Progression-free survival leaves out
those whose disease had progressed by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from inference.evaluation.arms.plan import ARMS, ArmsPlan, Origin
from inference.evaluation.predictions.models import Arm
from inference.models.image_features.sequences import ImageKind, PatientVectors
from inference.models.image_features.vectors import DIMENSION
from inference.models.survival.tokens import DatedTokens, no_tokens
from inference.results import FloatArray
from inference.training.cohort import Cohort, Split
from inference.training.survival.rows import Followed, SurvivalRows
from inference.training.survival.sources import rows_of_cohort
from inference.training.virtual_images import Seen

KINDS = tuple(str(kind) for kind in ImageKind)
LANDMARK = "landmark_months"
"""Column that every arm of a landmark table has: the months from treatment to the landmark."""
PLACE_MONTHS = 3.0
"""Month under which the model files the follow-up of a landmark table, whenever it was made."""
_SAME_MONTH = 1e-6


@dataclass(frozen=True, slots=True)
class ArmTable:
    """n patients, followed from one origin.

    Attributes
    ----------
    ids : tuple of str, (n,)
    start_months : array, (n,)
        After treatment; from when a patient is followed.
    rows : mapping of Arm to SurvivalRows
        The same patients and outcomes, and what the arm is given; all marked as training patients.
    """

    origin: Origin
    ids: tuple[str, ...]
    start_months: FloatArray
    rows: Mapping[Arm, SurvivalRows]

    @property
    def outcomes(self) -> Mapping[str, Followed]:
        """End point -> follow-up, the same for all arms."""
        return next(iter(self.rows.values())).outcomes


def patients_of(cohort: Cohort, ids: Sequence[str]) -> SurvivalRows:
    """Return clinical values and outcomes of some patients, in the order of `ids`.

    Raises
    ------
    TrainingDataError
        As `rows_of_cohort`.
    """
    table = cohort.patients.set_index("patient_id", drop=False).loc[list(ids)].reset_index(drop=True)
    return rows_of_cohort(replace(cohort, patients=table.assign(split=str(Split.TRAIN))), None)


def from_treatment(cohort: Cohort, seen: Mapping[str, Seen], plan: ArmsPlan) -> ArmTable:
    """Return all patients from the start of treatment; there is no real follow-up then.

    Virtual images are those of the months of the plan, the same for all: the month of a real follow-up
    would tell that the patient lived so long.
    """
    ids = tuple(seen)
    rows = patients_of(cohort, ids)
    vectors = [seen[patient_id].vectors for patient_id in ids]
    baseline = [v.of(ImageKind.BASELINE) for v in vectors]
    virtual = [_at(v.of(ImageKind.VIRTUAL), plan.months) for v in vectors]
    given = {
        Arm.CLINICAL: None,
        Arm.BASELINE_IMAGES: baseline,
        Arm.VIRTUAL: [_joined(b, v) for b, v in zip(baseline, virtual, strict=True)],
    }
    arms = {arm: _with_images(rows, images) for arm, images in given.items()}
    return ArmTable(Origin.TREATMENT, ids, np.zeros(len(ids)), arms)


def from_landmark(cohort: Cohort, seen: Mapping[str, Seen], plan: ArmsPlan) -> ArmTable | None:
    """Return the patients who have a real follow-up by the landmark and live beyond it; None where nobody.

    The virtual image is that of the same month. Whatever this month is, the follow-up takes one place in
    the model, so that few patients of each month learn together; the month is a column of every arm.
    """
    used = {patient_id: _used(one.vectors, plan.landmark_months) for patient_id, one in seen.items()}
    died = dict(zip(cohort.patients["patient_id"], cohort.patients["os_months"].astype(float), strict=True))
    start = {p: _start(month, plan.landmark_months) for p, month in used.items() if month is not None}
    ids = tuple(p for p, month in start.items() if died[p] > month)
    if not ids:
        return None
    since = np.array([start[p] for p in ids])
    rows = _beyond(patients_of(cohort, ids), since)
    vectors = [seen[p].vectors for p in ids]
    month = [float(used[p] or 0.0) for p in ids]
    baseline = [v.of(ImageKind.BASELINE) for v in vectors]
    given: dict[Arm, list[PatientVectors] | None] = {Arm.CLINICAL: None, Arm.BASELINE_IMAGES: baseline}
    for arm, kind in ((Arm.REAL_FOLLOW_UP, ImageKind.REAL), (Arm.VIRTUAL, ImageKind.VIRTUAL)):
        later = [_placed(_at(v.of(kind), (m,))) for v, m in zip(vectors, month, strict=True)]
        given[arm] = [_joined(b, f) for b, f in zip(baseline, later, strict=True)]
    arms = {arm: _with_images(rows, given[arm]) for arm in ARMS}
    return ArmTable(Origin.LANDMARK, ids, since, arms)


def _used(vectors: PatientVectors, landmark: float | None) -> float | None:
    """Return the month of the real follow-up that counts: the last by the landmark, or the first of all."""
    months = vectors.of(ImageKind.REAL).months
    # Before its first month the follow-up is no different from the baseline.
    months = months[months > 0]
    if landmark is None:
        return float(months.min()) if len(months) else None
    months = months[months <= landmark]
    return float(months.max()) if len(months) else None


def _start(month: float, landmark: float | None) -> float:
    return month if landmark is None else landmark


def _beyond(rows: SurvivalRows, since: FloatArray) -> SurvivalRows:
    """Return the rows followed from a month of each patient; who had the end point by then is not known."""
    outcomes = {}
    for name, followed in rows.outcomes.items():
        left = followed.months - since
        outcomes[name] = Followed(np.where(left > 0, left, np.nan), followed.event)
    table = {**rows.inputs.table, LANDMARK: since}
    return replace(rows, inputs=replace(rows.inputs, table=table), outcomes=outcomes)


def _at(vectors: PatientVectors, months: Sequence[float]) -> PatientVectors:
    near = np.abs(vectors.months[:, None] - np.array(months)[None, :]) < _SAME_MONTH
    kept = np.flatnonzero(near.any(axis=1))
    return PatientVectors(vectors.vectors[kept], vectors.months[kept], tuple(vectors.kinds[i] for i in kept))


def _placed(vectors: PatientVectors) -> PatientVectors:
    return replace(vectors, months=np.full(len(vectors.months), PLACE_MONTHS))


def _joined(first: PatientVectors, second: PatientVectors) -> PatientVectors:
    return PatientVectors(
        np.concatenate([first.vectors, second.vectors]),
        np.concatenate([first.months, second.months]),
        (*first.kinds, *second.kinds),
    )


def _with_images(rows: SurvivalRows, vectors: Sequence[PatientVectors] | None) -> SurvivalRows:
    if vectors is None:
        return rows
    return replace(rows, inputs=replace(rows.inputs, images=images_of(vectors)), image_kinds=KINDS)


def images_of(vectors: Sequence[PatientVectors]) -> DatedTokens:
    """Return the vectors of n patients as the survival model takes them."""
    most = max((len(v.kinds) for v in vectors), default=0)
    if not most:
        return no_tokens(len(vectors))
    n = len(vectors)
    features = np.zeros((n, most, DIMENSION), dtype=np.float32)
    kind = np.zeros((n, most), dtype=np.intp)
    months = np.zeros((n, most))
    known = np.zeros((n, most), dtype=np.bool_)
    for row, one in enumerate(vectors):
        count = len(one.kinds)
        features[row, :count] = one.vectors
        kind[row, :count] = [KINDS.index(str(k)) for k in one.kinds]
        months[row, :count] = one.months
        known[row, :count] = True
    return DatedTokens(features, kind, months, known)
