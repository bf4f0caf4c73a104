"""Prepared cohorts of a few small crops whose outcomes follow a simple rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inference.training.cohort import (
    SPACING_MM,
    Cohort,
    CohortInfo,
    FollowUpImages,
    Origin,
    PatientImages,
    write_images,
    write_tables,
)

SIDE = 28
REGIMENS = ("tace", "haic")
MONTHS = (3.0, 6.0)
VOXEL_ML = SPACING_MM**3 / 1000


@dataclass(frozen=True)
class SmallPatient:
    """A ball of tumour in a block of liver; `vascularity` decides contrast and response."""

    number: int
    radius: float
    vascularity: float

    @property
    def patient_id(self) -> str:
        return f"S{self.number:04d}"

    def images(self, outcomes: pd.DataFrame) -> PatientImages:
        z, y, x = np.mgrid[:SIDE, :SIDE, :SIDE] - (SIDE - 1) / 2
        distance = np.sqrt(z**2 + y**2 + x**2)
        tumour = distance <= self.radius
        liver = (np.abs(np.stack([z, y, x])) <= SIDE / 2 - 2).all(axis=0)
        clean = np.full((2, SIDE, SIDE, SIDE), -100, dtype=np.int16)
        clean[:, liver] = 60
        clean[0, tumour] = int(90 + 30 * self.vascularity)
        clean[1, tumour] = 50
        rng = np.random.default_rng(self.number)
        noisy = (clean + rng.normal(0, 5, clean.shape)).astype(np.int16)
        fractions = np.zeros((3, SIDE, SIDE, SIDE), dtype=np.uint8)
        fractions[0, tumour] = 255
        imaged = outcomes[(outcomes.patient_id == self.patient_id) & (outcomes.imaged == 1)]
        seen = tuple(
            self._follow_up(row.regimen_id, row.months, row.viable_ml, clean, distance, tumour)
            for row in imaged.itertuples()
        )
        liver_share = (liver * 255).astype(np.uint8)
        return PatientImages(
            self.patient_id, noisy, clean, liver_share, fractions, tumour.astype(np.uint8), seen
        )

    def _follow_up(self, regimen, months, viable_ml, clean, distance, tumour) -> FollowUpImages:
        order = np.argsort(distance, axis=None, kind="stable")
        viable = np.zeros(distance.size, dtype=bool)
        viable[order[: round(viable_ml / VOXEL_ML)]] = True
        viable = viable.reshape(distance.shape)
        dead = tumour & ~viable
        images = clean.copy()
        images[:, dead] = 30
        images[:, viable] = images[:, SIDE // 2, SIDE // 2, SIDE // 2][:, None]
        fractions = np.stack([viable * 255, dead * 255, dead * 0]).astype(np.uint8)
        return FollowUpImages(regimen, months, images, fractions, (viable | dead).astype(np.uint8))


def small_cohort(folder: Path, patients: int = 60, seed: int = 0) -> Cohort:
    """Write a cohort: two in five patients for testing, the others for training.

    The logarithm of the ratio of viable volume is -0.6 vascularity + shift of the regimen + noise.
    """
    rng = np.random.default_rng(seed)
    everyone = [SmallPatient(i, rng.uniform(3.2, 5.5), rng.normal()) for i in range(patients)]
    tables, outcomes = [], []
    for patient in everyone:
        voxels = patient.images(pd.DataFrame(columns=["patient_id", "imaged"])).fractions[0] > 0
        viable = voxels.sum() * VOXEL_ML
        given = REGIMENS[int(rng.integers(2))]
        shown = {(r, m) for r in REGIMENS for m in MONTHS}
        rate = 0.0
        for regimen in REGIMENS:
            for months in MONTHS:
                shift = -0.5 if regimen == "tace" else 0.1
                change = shift - 0.6 * patient.vascularity + rng.normal(0, 0.15) - 0.02 * months
                ratio = float(np.clip(np.exp(change), 0.0, 2.0))
                rate = ratio if regimen == given else rate
                diameter = np.cbrt(ratio)
                category = "PR" if diameter <= 0.7 else "PD" if diameter >= 1.2 else "SD"
                outcomes.append(
                    {
                        "patient_id": patient.patient_id,
                        "regimen_id": regimen,
                        "months": months,
                        "observed": int(regimen == given),
                        "imaged": int((regimen, months) in shown),
                        "viable_ml": round(ratio * viable / VOXEL_ML) * VOXEL_ML,
                        "necrosis_ml": max(0.0, 1 - ratio) * viable,
                        "lipiodol_ml": 0.0,
                        "new_lesions": 0,
                        "recist11": category,
                        "mrecist": category,
                    }
                )
        months_alive = float(rng.exponential(13 / max(rate, 0.2)) + 3.1)
        tables.append(
            {
                "patient_id": patient.patient_id,
                "centre": "here",
                "split": "test" if patient.number % 5 < 2 else "train",
                "regimen_id": given,
                "baseline_viable_ml": viable,
                "baseline_total_ml": viable,
                "liver_ml": 100.0,
                "os_months": min(months_alive, 40.0),
                "os_event": int(months_alive < 40),
                "pfs_months": min(months_alive, 12.0),
                "pfs_event": 1,
                "age": float(rng.normal(60, 10)),
                "sex": "M" if rng.random() < 0.8 else "F",
                "albumin": float(rng.normal(38, 4)) if rng.random() < 0.8 else np.nan,
                "latent_vascularity": patient.vascularity,
            }
        )
    table = pd.DataFrame(outcomes)
    for patient in everyone:
        write_images(folder, patient.images(table))
    info = CohortInfo(
        name=f"small {seed}",
        origin=Origin.SIMULATED,
        modality="CT",
        phases=("arterial", "portal_venous"),
        patients=patients,
        seed=seed,
    )
    return write_tables(folder, info, pd.DataFrame(tables), table)
