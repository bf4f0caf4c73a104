"""Patients with planted effects on survival, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from inference.models.survival.fitted import REGIMEN, Inputs
from inference.models.survival.tokens import IMAGE_WIDTH, DatedTokens
from inference.results import FloatArray
from inference.training.survival.rows import Followed, SurvivalRows

KINDS = ("baseline arterial", "virtual arterial")


@dataclass(frozen=True)
class Planted:
    """Rows, and the log hazards that they were drawn from."""

    rows: SurvivalRows
    clinical: FloatArray
    imaged: FloatArray

    @property
    def truth(self) -> FloatArray:
        return self.clinical + self.imaged


def censored(log_hazard: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, np.ndarray]:
    """Exponential times of median about 20 months at a log hazard of 0, followed for 6 to 60 months."""
    time = rng.exponential(np.exp(-log_hazard)) * 30.0
    end = rng.uniform(6.0, 60.0, len(time))
    return np.minimum(time, end), time <= end


def planted_rows(patients: int, seed: int, image_effect: float = 1.0) -> Planted:
    """Make patients whose bilirubin, regimen and image vectors decide survival.

    Every fifth patient has no image, every seventh no bilirubin; a tenth each is for validation, and a
    fifth for testing.
    """
    rng = np.random.default_rng(seed)
    bilirubin = np.exp(rng.normal(3.0, 0.6, patients))
    regimen = rng.choice(["tace", "haic"], patients)
    age = rng.normal(60.0, 10.0, patients)
    signal = rng.normal(size=patients)
    clinical = 0.8 * (np.log(bilirubin) - 3.0) + 0.5 * (regimen == "haic")
    imaged = image_effect * signal
    features = rng.normal(size=(patients, 2, IMAGE_WIDTH)).astype(np.float32)
    direction = np.ones(IMAGE_WIDTH) / np.sqrt(IMAGE_WIDTH)
    # The signal is the direction in which images differ most, as that of a good encoder would be.
    features += (4.0 * signal)[:, None, None].astype(np.float32) * direction.astype(np.float32)
    known = np.tile(np.arange(patients)[:, None] % 5 != 0, (1, 2))
    images = DatedTokens(
        features,
        np.tile(np.array([0, 1], dtype=np.intp), (patients, 1)),
        np.tile([0.0, 6.0], (patients, 1)),
        known,
    )
    given = np.where(np.arange(patients) % 7 == 0, np.nan, bilirubin)
    table = {"bilirubin": given, "age": age, REGIMEN: [str(r) for r in regimen]}
    os_months, os_event = censored(clinical + imaged, rng)
    pfs_months, pfs_event = censored(clinical + imaged + 0.7, rng)
    split = np.array(["train"] * 7 + ["validation"] + ["test"] * 2)[np.arange(patients) % 10]
    rows = SurvivalRows(
        inputs=Inputs(table, np.zeros((patients, 0), dtype=np.float32), images),
        image_kinds=KINDS,
        outcomes={"os": Followed(os_months, os_event), "pfs": Followed(pfs_months, pfs_event)},
        split=split,
    )
    return Planted(rows, clinical, imaged)


def planted_table(patients: int, seed: int) -> tuple[pd.DataFrame, FloatArray, np.ndarray, FloatArray]:
    """Make a table with a number of curved effect, a skewed number, words, and missing values.

    Returns
    -------
    covariates, time, event, log hazard
    """
    rng = np.random.default_rng(seed)
    curved, skewed = rng.normal(size=patients), np.exp(rng.normal(size=patients))
    grade = rng.choice(["I", "II", "III"], patients, p=[0.5, 0.3, 0.2])
    log_hazard = 0.6 * (curved**2 - 1.0) + 0.7 * np.log(skewed) + 0.8 * (grade == "III")
    time, event = censored(log_hazard, rng)
    covariates = pd.DataFrame(
        {
            "curved": np.where(np.arange(patients) % 9 == 0, np.nan, curved),
            "skewed": skewed,
            "grade": pd.Categorical(grade),
            "treated": rng.random(patients) < 0.5,
        }
    )
    covariates.loc[3, "grade"] = np.nan
    return covariates, time, event, log_hazard
