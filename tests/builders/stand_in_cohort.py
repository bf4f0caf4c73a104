"""A small cohort in the prepared form: round livers and tumours, outcomes that follow from what is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from inference.training.cohort import (
    NO_VALUE,
    SPACING_MM,
    Cohort,
    CohortInfo,
    FollowUpImages,
    Origin,
    PatientImages,
    write_images,
    write_tables,
)

VOXEL_ML = SPACING_MM**3 / 1000.0
REGIMENS = {"tace": 0.0, "haic": -0.4, "tace_haic_tki_pd1": 1.0}
MONTHS = (1.0, 3.0, 6.0)
_CT = {
    "liver": (70.0, 108.0),
    "viable": (50.0, -25.0),
    "necrosis": (-45.0, -75.0),
    "lipiodol": (280.0, 250.0),
}
_MR = {
    "liver": (1000.0, 1000.0),
    "viable": (350.0, -150.0),
    "necrosis": (-400.0, -400.0),
    "lipiodol": (-100.0, -100.0),
}


def _distance(centre: np.ndarray, size: int) -> np.ndarray:
    axes = [(np.arange(size) - c) * SPACING_MM for c in centre]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.sqrt(z**2 + y**2 + x**2)


def _share(depth: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + depth / SPACING_MM, 0.0, 1.0)


class _Course:
    """One patient: lesions as balls; treatment kills a half-space of each and shrinks it."""

    def __init__(self, rng: np.random.Generator, size: int, modality: str) -> None:
        self.size, self.levels = size, _CT if modality == "CT" else _MR
        self.enhancement = float(rng.normal())
        self.afp = float(np.exp(rng.normal(4.0, 1.5)))
        self.luck = float(rng.normal())
        middle = np.full(3, size / 2.0)
        extent = size * SPACING_MM / 2.0
        self.liver = _share(0.8 * extent - _distance(middle, size))
        count = int(rng.integers(1, 3))
        self.balls = []
        for index in range(count):
            centre = middle + rng.uniform(-0.3, 0.3, 3) * size + index * np.array([0, 0, 0.2 * size])
            self.balls.append((centre, float(rng.uniform(0.18, 0.34)) * extent, rng.normal(size=3)))

    def killed(self, regimen: str, months: float) -> float:
        level = REGIMENS[regimen] + 0.9 * self.enhancement - 0.3 * (np.log(self.afp) - 4.0) + 0.7 * self.luck
        return float(1.0 / (1.0 + np.exp(-level)) * min(months / 3.0, 1.0))

    def tissues(self, regimen: str | None, months: float) -> tuple[np.ndarray, np.ndarray]:
        fractions = np.zeros((3, self.size, self.size, self.size))
        lesion = np.zeros(fractions.shape[1:], np.uint8)
        killed = 0.0 if regimen is None else self.killed(regimen, months)
        for number, (centre, radius, normal) in enumerate(self.balls, start=1):
            now = radius * (1.0 + 0.02 * months * (1.0 - killed) - 0.02 * months * killed)
            whole = _share(now - _distance(centre, self.size)) * self.liver
            whole = np.where(lesion > 0, 0.0, whole)
            axes = [(np.arange(self.size) - c) * SPACING_MM for c in centre]
            z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
            along = (z * normal[0] + y * normal[1] + x * normal[2]) / np.linalg.norm(normal)
            dead = _share((2.0 * killed - 1.0) * now - along) if killed > 0.02 else 0.0
            oil = 0.5 if regimen is not None and regimen.startswith("tace") else 0.0
            fractions += np.stack([whole * (1 - dead), whole * dead * (1 - oil), whole * dead * oil])
            lesion[whole >= 0.5] = number
        return fractions, lesion

    def image(self, fractions: np.ndarray) -> np.ndarray:
        out = []
        for phase in range(2):
            level = self.levels["liver"][phase] * np.ones(fractions.shape[1:])
            contrast = self.levels["viable"][phase] * (1.0 + 0.3 * self.enhancement)
            level += fractions[0] * contrast
            level += fractions[1] * self.levels["necrosis"][phase]
            level += fractions[2] * self.levels["lipiodol"][phase]
            out.append(np.where(self.liver > 0.01, level, -80.0))
        return np.stack(out)


def write_stand_in(
    folder: Path, patients: int = 12, size: int = 96, modality: str = "CT", seed: int = 0, imaged: int = 2
) -> Cohort:
    """Write a cohort; the kill of a treatment depends on enhancement, AFP and luck."""
    rng = np.random.default_rng(seed)
    rows, outcomes = [], []
    for index in range(patients):
        patient_id = f"p{index:04d}"
        course = _Course(rng, size, modality)
        fractions, lesion = course.tissues(None, 0.0)
        clean = np.rint(course.image(fractions)).astype(np.int16)
        noisy = clean + np.rint(rng.normal(0, 10, clean.shape)).astype(np.int16)
        if index % 5 == 4:
            noisy[0], clean[0] = NO_VALUE, NO_VALUE
        base = fractions.reshape(3, -1).sum(axis=1) * VOXEL_ML
        own = str(rng.choice(list(REGIMENS)))
        pairs = [(r, m) for r in REGIMENS for m in MONTHS]
        drawn = {pairs[i] for i in rng.choice(len(pairs), size=imaged, replace=False)}
        follow_ups = []
        for regimen, months in pairs:
            later, labels = course.tissues(regimen, months)
            volumes = later.reshape(3, -1).sum(axis=1) * VOXEL_ML
            ratio = volumes[0] / base[0]
            outcomes.append(
                {
                    "patient_id": patient_id,
                    "regimen_id": regimen,
                    "months": months,
                    "observed": int(regimen == own),
                    "imaged": int((regimen, months) in drawn),
                    "viable_ml": volumes[0],
                    "necrosis_ml": volumes[1],
                    "lipiodol_ml": volumes[2],
                    "new_lesions": int(rng.poisson(0.02 * months)),
                    "recist11": "SD",
                    "mrecist": "PR" if ratio < 0.5 else "SD" if ratio < 1.4 else "PD",
                }
            )
            if (regimen, months) in drawn:
                images = np.rint(course.image(later)).astype(np.int16)
                images[clean == NO_VALUE] = NO_VALUE
                shares = np.rint(255 * later).astype(np.uint8)
                follow_ups.append(FollowUpImages(regimen, months, images, shares, labels))
        liver = np.rint(255 * course.liver).astype(np.uint8)
        shares = np.rint(255 * fractions).astype(np.uint8)
        write_images(
            folder, PatientImages(patient_id, noisy, clean, liver, shares, lesion, tuple(follow_ups))
        )
        split = "train" if index % 4 else ("validation" if index % 8 else "test")
        rows.append(
            {
                "patient_id": patient_id,
                "centre": "A",
                "split": split,
                "regimen_id": own,
                "baseline_viable_ml": base[0],
                "baseline_total_ml": base.sum(),
                "liver_ml": float(course.liver.sum()) * VOXEL_ML,
                "os_months": 20.0,
                "os_event": 1,
                "pfs_months": 8.0,
                "pfs_event": 1,
                "age": float(rng.integers(40, 80)),
                "afp": course.afp if index % 7 else None,
                "portal_vein_thrombosis": "yes" if rng.uniform() < 0.3 else "no",
            }
        )
    phases = ("arterial", "portal_venous") if modality == "CT" else ("t1_arterial", "t1_portal_venous")
    info = CohortInfo(
        name="stand-in",
        origin=Origin.SIMULATED,
        modality=modality,
        phases=phases,
        patients=patients,
        seed=seed,
    )
    return write_tables(folder, info, pd.DataFrame(rows), pd.DataFrame(outcomes))
