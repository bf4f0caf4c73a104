"""Generator bundles for tests: an outcome model fitted on invented numbers, and a random network.

The random network draws nonsense, but everything that is promised whatever a network answers (volumes,
places, bytes, refusals) can be seen on it, without minutes of training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from inference.bundle_store import seal
from inference.models.flow.conditions import CONDITIONS
from inference.models.flow.generator import GeneratorSettings
from inference.models.flow.network import ChangeNetwork, NetworkSettings
from inference.models.flow.sampler import Draw, SamplerSettings
from inference.models.outcome.model import OutcomeModel
from inference.settings import Regimen, TaceSession
from inference.training.cohort import Cohort, CohortInfo, Origin
from inference.training.features import PatientTable
from inference.training.outcome import OutcomeTraining, fit_outcome_model

TACE = Regimen(id="tace", name="TACE", tace=(TaceSession(day=0), TaceSession(day=42)), source="test")
HAIC = Regimen(id="haic", name="HAIC", haic_days=(0, 21, 42, 63), source="test")
TRIPLE = Regimen(
    id="tace_haic_tki_pd1",
    name="TACE-HAIC + TKI + PD-1",
    tace=(TaceSession(day=0),),
    haic_days=(0, 21, 42),
    tki=1.0,
    immunotherapy=1.0,
    source="test",
)
REGIMENS = {r.id: r for r in (TACE, HAIC, TRIPLE)}
KILLS = {"tace": 0.9, "haic": 0.5, "tace_haic_tki_pd1": 1.8}
MONTHS = (1.0, 3.0, 6.0)
SMALL = (8, 16, 16, 16)


def invented(
    patients: int = 120, seed: int = 0, modality: str = "CT", slope: float = 0.6
) -> tuple[Cohort, PatientTable]:
    """Return outcomes that follow from the contrast of the arterial phase, the regimen, and luck."""
    rng = np.random.default_rng(seed)
    ids = tuple(f"p{i:04d}" for i in range(patients))
    features, volumes, rows = [], [], []
    for patient_id in ids:
        contrast, luck = float(rng.normal()), float(rng.normal())
        total = float(np.exp(rng.normal(3.0, 0.8)))
        features.append(
            {
                "log_viable_ml": float(np.log(0.95 * total)),
                "contrast_0": 40.0 + 20.0 * contrast if rng.uniform() > 0.1 else float("nan"),
                "afp": float(rng.normal(4.0, 1.5)),
            }
        )
        volumes.append((0.95 * total, 0.05 * total, 0.0))
        for regimen, kill in KILLS.items():
            for months in MONTHS:
                done = min(months / 3.0, 1.0)
                left = np.exp(-done * kill * np.exp(slope * contrast + 0.4 * luck)) * np.exp(0.02 * months)
                dead = 0.8 * (1.0 - min(left, 1.0)) * total
                oil = 0.5 if regimen.startswith("tace") else 0.0
                rows.append(
                    {
                        "patient_id": patient_id,
                        "regimen_id": regimen,
                        "months": months,
                        "observed": 0,
                        "imaged": 0,
                        "viable_ml": left * 0.95 * total,
                        "necrosis_ml": dead * (1 - oil),
                        "lipiodol_ml": dead * oil,
                        "new_lesions": int(rng.poisson(0.03 * months)),
                        "recist11": "SD",
                        "mrecist": "PR" if left < 0.5 else "SD" if left < 1.4 else "PD",
                    }
                )
    info = CohortInfo(
        name="invented",
        origin=Origin.SIMULATED,
        modality=modality,
        phases=("arterial", "portal_venous"),
        patients=patients,
    )
    cohort = Cohort(Path("invented"), info, pd.DataFrame({"patient_id": ids}), pd.DataFrame(rows))
    table = PatientTable(ids, tuple(features), np.array(volumes), (), np.zeros((0, 2)))
    return cohort, table


def outcome_model(modality: str = "CT", patients: int = 120) -> OutcomeModel:
    """Return an outcome model of the invented outcomes."""
    cohort, table = invented(patients, modality=modality)
    return fit_outcome_model(cohort, table, REGIMENS, OutcomeTraining())


def random_network(widths: tuple[int, ...] = SMALL, seed: int = 0) -> ChangeNetwork:
    """Return a network whose answers depend on all of its inputs, without a meaning."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ChangeNetwork(NetworkSettings(conditions=CONDITIONS, widths=widths))
        for parameter in network.parameters():
            if parameter.requires_grad and not parameter.detach().any():
                torch.nn.init.normal_(parameter, std=0.05)
    return network


def write_flow_bundle(
    folder: Path,
    widths: tuple[int, ...] = SMALL,
    steps: int = 2,
    modalities: tuple[str, ...] = ("CT", "MR"),
    name: str = "random_flow",
) -> Path:
    """Write a bundle that can be installed and run."""
    (folder / "models").mkdir(parents=True)
    network = random_network(widths)
    for draw in Draw:
        weights = {k: v.to(torch.float16).contiguous() for k, v in network.state_dict().items()}
        save_file(weights, folder / "models" / f"{draw.value}.safetensors")
    for modality in modalities:
        (folder / modality.lower()).mkdir()
        outcome_model(modality).write(folder / modality.lower())
    settings = GeneratorSettings(
        modalities=modalities, network=network.settings, sampler=SamplerSettings(steps=steps)
    )
    (folder / "generator.json").write_text(settings.model_dump_json() + "\n", encoding="utf-8")
    seal(
        folder,
        {
            "name": name,
            "version": "1",
            "kind": "generator",
            "format": "flow",
            "schema": 1,
            "trained_on": "simulated: invented numbers, n 120",
        },
    )
    return folder
