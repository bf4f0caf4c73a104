"""Patients whose real follow-up images tell how long they live, and virtual ones as much as is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.evaluation.arms.plan import ArmsPlan
from inference.models.image_features.sequences import ImageKind, PatientVectors
from inference.models.survival.network import NetworkSize
from inference.training.cohort import Cohort, CohortInfo, Origin
from inference.training.survival.fit import SurvivalSettings
from inference.training.survival.networks import NetworkSettings
from inference.training.virtual_images import Seen

SURVIVAL = SurvivalSettings(
    intervals=8,
    inner_folds=3,
    network_folds=2,
    draws=1,
    networks=NetworkSettings(size=NetworkSize(width=8, heads=2), networks=1, steps=10, note_every=10),
)
PLAN = ArmsPlan(months=(3.0,), folds=2, draws=60, survival=SURVIVAL)
FIRST = np.array([1.0, 6.0])
"""Month of a patient's first real follow-up, in turn."""


@dataclass(frozen=True)
class Planted:
    """A cohort without images, and what its images would say."""

    cohort: Cohort
    seen: dict[str, Seen]
    signal: np.ndarray


def planted(patients: int = 150, seed: int = 0, virtual: float = 0.0, name: str = "planted") -> Planted:
    """Make patients: each has a real follow-up of month 1 or 6 and one of month 9.

    Parameters
    ----------
    virtual : float
        How much of the signal of the real follow-up is in the virtual image of the same month.
    """
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=patients)
    bilirubin = np.exp(rng.normal(3.0, 0.5, patients))
    hazard = np.exp(0.5 * (np.log(bilirubin) - 3.0) + 1.2 * signal)
    death, lost = rng.exponential(25.0 / hazard), rng.uniform(20.0, 60.0, patients)
    progression = rng.exponential(14.0 / hazard)
    alive = np.minimum(death, lost)
    table = pd.DataFrame(
        {
            "patient_id": [f"{name[0]}{i:03d}" for i in range(patients)],
            "centre": "here",
            "split": "test",
            "regimen_id": rng.choice(["tace", "haic"], patients),
            "baseline_viable_ml": 50.0,
            "baseline_total_ml": rng.uniform(20.0, 90.0, patients).round(3),
            "liver_ml": rng.uniform(900.0, 2000.0, patients).round(3),
            "os_months": alive,
            "os_event": (death <= lost).astype(int),
            "pfs_months": np.minimum(progression, alive),
            "pfs_event": ((progression < alive) | (death <= lost)).astype(int),
            "bilirubin": bilirubin,
        }
    )
    info = CohortInfo(
        name=name,
        origin=Origin.SIMULATED,
        modality="CT",
        phases=("arterial", "portal_venous"),
        patients=patients,
        sha256=name,
    )
    cohort = Cohort(Path(name), info, table, pd.DataFrame())
    seen = {
        p: _seen(i, s, virtual, rng) for i, (p, s) in enumerate(zip(cohort.ids("test"), signal, strict=True))
    }
    return Planted(cohort, seen, signal)


def _seen(number: int, signal: float, virtual: float, rng: np.random.Generator) -> Seen:
    first = float(FIRST[number % 2])
    images = [
        (ImageKind.BASELINE, 0.0, 0.0),
        (ImageKind.REAL, first, 1.0),
        (ImageKind.REAL, 9.0, 1.0),
        *((ImageKind.VIRTUAL, m, virtual) for m in sorted({first, 3.0, 9.0})),
    ]
    direction = np.ones(256) / 16.0
    vectors = [rng.normal(size=256) * 0.3 + 3.0 * share * signal * direction for _, _, share in images]
    months = np.array([m for _, m, _ in images])
    return Seen(
        PatientVectors(np.array(vectors, dtype=np.float32), months, tuple(k for k, _, _ in images)), 0
    )
