"""Small prepared cohorts with the clinical values, responses and deaths that published systems learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.models.second_opinions.residual import Depth, ResidualSettings
from inference.models.second_opinions.resnet50 import PerceptronSettings
from inference.training.cohort import Cohort, write_tables
from inference.training.loop import LoopSettings
from inference.training.seed_systems.dlop import DlopTraining
from inference.training.seed_systems.dlop_networks import NetworkTraining
from inference.training.seed_systems.outcomes import objective_response
from inference.training.seed_systems.resnet50 import Resnet50Training
from tests.builders.small_cohorts import small_cohort
from tests.builders.stand_in_cohort import write_stand_in

SPLITS = ("train", "train", "validation", "train", "test")
TINY = ResidualSettings(depth=Depth.TINY, width=4, slices=4)
LOOP = LoopSettings(
    steps=20, learning_rate=3e-3, warm_up_steps=5, validate_every=10, average_decay=0.9, patience=8
)


def resnet50_training(regimens: tuple[str, ...] = ()) -> Resnet50Training:
    """Return a training that takes seconds."""
    network = PerceptronSettings(residual=TINY, hidden=8, image_features=4)
    return Resnet50Training(network=network, loop=LOOP, batch=8, regimens=regimens)


def dlop_training(regimens: tuple[str, ...] = ()) -> DlopTraining:
    """Return a training that takes seconds."""
    return DlopTraining(residual=TINY, network=NetworkTraining(loop=LOOP, batch=8), regimens=regimens)


def seed_cohort(folder: Path, patients: int = 40, seed: int = 0) -> Cohort:
    """Write a cohort of small crops in which vascular tumours respond; see `_with_outcomes`."""
    return _with_outcomes(folder, small_cohort(folder, patients, seed), seed)


def seed_stand_in(folder: Path, patients: int = 40, seed: int = 0) -> Cohort:
    """Write a cohort of crops of 64 voxels with livers and two tumours; see `_with_outcomes`."""
    return _with_outcomes(folder, write_stand_in(folder, patients, size=64, seed=seed), seed)


def _with_outcomes(folder: Path, found: Cohort, seed: int) -> Cohort:
    """Give patients values and follow-up: responders and patients of low AFP live longer.

    Three in five patients are for training. Some die before the third month, some leave before it.
    """
    rng = np.random.default_rng(seed + 1)
    table = found.patients
    n = len(table)
    responded = objective_response(found, table["patient_id"].tolist())
    afp = np.where(rng.random(n) < 0.5, 20.0, 900.0)
    hazard = np.exp(0.9 * (afp > 400) - 1.2 * np.nan_to_num(responded))
    death = rng.exponential(18.0 / hazard) + 0.3
    lost = rng.uniform(2.0, 60.0, n)
    progression = rng.exponential(9.0 / hazard) + 0.2
    months = np.minimum(death, lost)
    changed = table.assign(
        split=[SPLITS[i % len(SPLITS)] for i in range(n)],
        afp=afp,
        pvtt_class=np.where(rng.random(n) < 0.3, "Vp4", "Vp0"),
        largest_tumour=rng.uniform(40, 160, n),
        tumour_number=rng.integers(1, 5, n),
        capsule=(rng.random(n) < 0.5).astype(int),
        diffuse_type=0,
        bilirubin=rng.uniform(8, 40, n),
        vascular_invasion=(rng.random(n) < 0.3).astype(int),
        os_months=np.round(months, 3),
        os_event=(death <= lost).astype(int),
        pfs_months=np.round(np.minimum(progression, months), 3),
        pfs_event=((progression <= months) | (death <= lost)).astype(int),
    )
    return write_tables(folder, found.info, changed, found.outcomes)
