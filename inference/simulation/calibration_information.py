"""What a baseline tells of a simulated patient's outcome, as a reader would measure it."""

from __future__ import annotations

import numpy as np

from inference.results import FloatArray
from inference.simulation.calibration_population import Member
from inference.simulation.calibration_response import ResponseCurve
from inference.simulation.latents import Person
from inference.simulation.tumours import Lesion

FOLDS = 5


def observables(member: Member) -> FloatArray:
    """Return clinical values and simple radiomics of a baseline, as one would measure them."""
    person, base = member.person, member.baseline
    rng = member.course.streams.derive("radiomics")
    total = base.viable_ml + sum(v.necrosis_ml for v in base.lesions)
    volumes = sorted((v.viable_ml + v.necrosis_ml for v in base.lesions), reverse=True)
    lesions = member.course.disease.lesions
    return np.array(
        [
            *traits(person, rng),
            np.log(volumes[0] + 0.5),
            np.log(total + 0.5),
            sum(v.necrosis_ml for v in base.lesions) / max(total, 1e-6),
            _surface(lesions[0]),
        ]
    )


def traits(person: Person, rng: np.random.Generator) -> FloatArray:
    """Return what clinical values and a reading of the baseline tell of a patient."""
    look, plan = person.appearance, person.plan
    return np.array(
        [
            *_clinical(person),
            np.log(plan.diameters_mm[0]),
            np.log(len(plan.diameters_mm)),
            plan.necrosis_share + rng.normal(0, 0.03),
            look.arterial_contrast_hu + rng.normal(0, 4.0),
            look.portal_contrast_hu + rng.normal(0, 4.0),
            look.mosaic_hu + rng.normal(0, 2.0),
            look.capsule + rng.normal(0, 0.2),
            look.infiltrative + rng.normal(0, 0.2),
        ]
    )


def _clinical(person: Person) -> list[float]:
    c = person.clinical
    logs = [
        float(np.log(float(c[n]) + 1.0))
        for n in ("afp", "bilirubin", "alt", "ast", "crp", "platelets", "neutrophils")
    ]
    plain = (
        "age",
        "albumin",
        "inr",
        "ecog",
        "capsule",
        "diffuse_type",
        "vascular_invasion",
        "metastasis",
        "lymph_nodes",
    )
    return [
        *logs,
        *(float(c[n]) for n in plain),
        float(c["ascites"] != "none"),
        float(person.plan.thrombus >= 3),
    ]


def _surface(lesion: Lesion) -> float:
    """Share of the tumour within 5 mm of its edge: small for compact tumours."""
    inside = lesion.domain & (lesion.depth > 0)
    return float((lesion.depth[inside] < 5.0).mean()) if inside.any() else 0.0


def _folds(count: int) -> FloatArray:
    return np.arange(count, dtype=np.float64) % FOLDS


def cross_validated(table: FloatArray, labels: FloatArray) -> FloatArray:
    """Return log odds of each patient from a ridge logistic regression on the others."""
    folds, out = _folds(len(labels)), np.zeros(len(labels))
    for fold in range(FOLDS):
        rest = folds != fold
        out[~rest] = ResponseCurve.fit(table[rest], labels[rest], ridge=8.0).logit(table[~rest])
    return out


def ridge_cross_validated(table: FloatArray, values: FloatArray) -> FloatArray:
    """Return predictions of each patient from a ridge regression on the others."""
    folds, out = _folds(len(values)), np.zeros(len(values))
    for fold in range(FOLDS):
        rest = folds != fold
        mean, spread = table[rest].mean(axis=0), np.maximum(table[rest].std(axis=0), 1e-6)
        design = (table - mean) / spread
        x, y = design[rest], values[rest] - values[rest].mean()
        weights = np.linalg.solve(x.T @ x + 20.0 * np.eye(x.shape[1]), x.T @ y)
        out[~rest] = design[~rest] @ weights
    return out


def concordance(times: FloatArray, risk: FloatArray) -> float:
    """Return Harrell's C without censoring: share of pairs in which who dies first has the higher risk."""
    earlier = times[:, None] < times[None, :]
    higher = risk[:, None] > risk[None, :]
    return float(higher[earlier].mean())
