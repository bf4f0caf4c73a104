"""The stand-in cohort with the four cohorts of treatment of SELECTION, and survival that follows a rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.training.cohort import Cohort, write_tables
from tests.builders.stand_in_cohort import write_stand_in

GIVEN = ("tace", "haic", "tace_systemic", "haic_systemic")


def write_treated(folder: Path, patients: int = 40, size: int = 48, seed: int = 0) -> Cohort:
    """Write a cohort: everybody had one of `GIVEN`, in turn.

    Of five patients of a treatment the first is for validation, and of ten the last for testing. Outcomes
    take turns, so that every treatment has patients of each kind; survival is shorter where AFP is high.
    """
    cohort = write_stand_in(folder, patients, size, seed=seed, imaged=0)
    rng = np.random.default_rng(seed + 1)
    table, outcomes = cohort.patients.copy(), cohort.outcomes.copy()
    turn = np.arange(patients) // len(GIVEN)
    table["regimen_id"] = [GIVEN[i % len(GIVEN)] for i in range(patients)]
    table["split"] = ["test" if t % 10 == 9 else "validation" if t % 5 == 0 else "train" for t in turn]
    afp = np.log(table["afp"].fillna(50.0).to_numpy()) - 4.0
    long = np.where(turn % 2 == 0, 25.0, 5.0)
    table["os_months"] = np.round(long * np.exp(-0.05 * afp) + rng.uniform(0.0, 1.0, patients), 2)
    table["os_event"] = (turn % 4 != 2).astype(int)
    table["pfs_months"] = np.round(table["os_months"] * rng.uniform(0.3, 1.0, patients), 2)
    table["pfs_event"] = 1
    table["albumin"], table["bilirubin"] = rng.normal(38, 4, patients), rng.lognormal(2.8, 0.4, patients)
    outcomes = outcomes[outcomes["regimen_id"] == "tace"].copy()
    outcomes["regimen_id"] = outcomes["patient_id"].map(table.set_index("patient_id")["regimen_id"])
    outcomes["observed"], outcomes["imaged"] = 1, 0
    best = dict(zip(table["patient_id"], [("PR", "PD", "SD")[int(t) % 3] for t in turn], strict=True))
    outcomes["mrecist"] = outcomes["patient_id"].map(best)
    return write_tables(folder, cohort.info, table, outcomes)
