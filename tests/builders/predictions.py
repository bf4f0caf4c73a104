"""A synthetic folder of predictions whose truth is known: an exponential model of three factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.evaluation.predictions.folder import ModelPredictions
from inference.evaluation.predictions.models import Arm, EndPoint, ModelEntry, Role
from inference.evaluation.predictions.patients import Patients, TimeToEvent
from inference.evaluation.predictions.survival_file import SurvivalPrediction

MONTHS = np.array([3.0, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36])
_SHARES = (("train", 0.45), ("validation", 0.2), ("test", 0.35))
SCALE = {"os": 26.0, "pfs": 13.0}


@dataclass(frozen=True)
class Truth:
    """Patients, and what the world knows of each: factors (n, 3), as the log hazard adds them up."""

    patients: Patients
    factors: np.ndarray
    response: np.ndarray

    def log_hazard(self, factors: int = 3) -> np.ndarray:
        """Log relative hazard of the first factors, (n,)."""
        return self.factors[:, :factors].sum(axis=1)


def truth(n: int = 200, seed: int = 1, external: int = 0) -> Truth:
    """Return n patients of three centres, and as many more of an external one as asked for."""
    rng = np.random.default_rng(seed)
    total = n + external
    factors = rng.normal(size=(total, 3)) * np.array([0.6, 0.45, 0.45])
    lost = rng.uniform(20, 75, size=total)
    hazard = np.exp(factors.sum(axis=1))
    survival = {}
    for name, scale in SCALE.items():
        died = rng.exponential(scale / hazard)
        time = np.maximum(np.round(np.minimum(died, lost), 2), 0.01)
        survival[name] = TimeToEvent(time, (died <= lost).astype(float))
    probability = 1 / (1 + np.exp(0.6 + 1.2 * factors.sum(axis=1)))
    response = (rng.random(total) < probability).astype(float)
    response[rng.random(total) < 0.04] = np.nan
    split = np.repeat([s for s, _ in _SHARES], [round(f * n) for _, f in _SHARES])
    assert len(split) == n
    split = np.concatenate((split, np.repeat("external-north", external)))
    covariates = pd.DataFrame(
        {
            "sex": np.where(rng.random(total) < 0.85, "male", "female"),
            "age": np.round(rng.normal(60, 10, size=total)),
            "bclc": rng.choice(["A", "B", "C"], size=total, p=[0.15, 0.35, 0.5]),
            "pvtt": (factors[:, 0] > 0.3).astype(float),
            "albumin": np.round(rng.normal(38, 5, size=total), 1),
        }
    )
    covariates.loc[rng.random(total) < 0.05, "bclc"] = None
    patients = Patients(
        ids=tuple(f"P{k:04d}" for k in range(total)),
        centre=np.where(split == "external-north", "north", rng.choice(["east", "south"], size=total)),
        split=split,
        regimen=rng.choice(["tace", "haic"], size=total),
        survival=survival,
        response=response,
        covariates=covariates,
    )
    return Truth(patients, factors, probability)


def survival_model(
    known: Truth, entry: ModelEntry, log_hazard: np.ndarray, months: np.ndarray = MONTHS
) -> ModelPredictions:
    """Return a model that believes in these log hazards; right where they are the true ones."""
    survival = {}
    for end_point in entry.end_points:
        if end_point != EndPoint.RESPONSE:
            curve = np.exp(-np.exp(log_hazard)[:, None] * months / SCALE[end_point])
            reach = 0.06 * np.ones_like(curve)
            survival[str(end_point)] = SurvivalPrediction(
                months, log_hazard, curve, np.clip(curve - reach, 0, 1), np.clip(curve + reach, 0, 1)
            )
    response = None
    if EndPoint.RESPONSE in entry.end_points:
        response = 1 / (1 + np.exp(0.6 + 1.2 * log_hazard))
    return ModelPredictions(entry, survival, response)


ALL = (EndPoint.OS, EndPoint.PFS, EndPoint.RESPONSE)


def four_arms(known: Truth) -> list[ModelPredictions]:
    """Return a clinical reference, a model with images, one with virtual images, and one with real ones.

    The first sees one factor, the others two, three and three; the last has a landmark of three months.
    """
    rng = np.random.default_rng(7)
    seen = [
        ("clinical", "Clinical Cox", Arm.CLINICAL, Role.REFERENCE, 1, ALL, 0.0),
        ("baseline", "Baseline images", Arm.BASELINE_IMAGES, Role.CANDIDATE, 2, ALL, 0.0),
        ("real", "Real follow-up", Arm.REAL_FOLLOW_UP, Role.CANDIDATE, 3, ALL[:2], 3.0),
        ("virtual", "Virtual follow-up", Arm.VIRTUAL, Role.CANDIDATE, 3, ALL, 0.0),
    ]
    models = []
    for name, title, arm, role, factors, end_points, landmark in seen:
        entry = ModelEntry(
            name=name,
            title=title,
            arm=arm,
            role=role,
            end_points=end_points,
            landmark_months=landmark,
            parameters=4 * factors,
            kind="simulated",
        )
        blur = rng.normal(size=len(known.patients)) * (0.2 if name == "virtual" else 0.0)
        models.append(survival_model(known, entry, known.log_hazard(factors) + blur))
    return models
