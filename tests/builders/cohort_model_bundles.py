"""Bundles of SELECTION, its comparators and DELICAITE whose networks learned nothing: quick to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from inference.bundle_store import BundleKind, seal
from inference.case import ClinicalRecord, ClinicalValue
from inference.comparison.overlap import Propensity
from inference.models.image_features.slices import SliceNetwork, SliceSettings, write_slices
from inference.models.image_features.vectors import Standard
from inference.models.second_opinions.atom import Therapy
from inference.models.second_opinions.clinical_inputs import SELECTION_VARIABLES, ClinicalScale
from inference.models.second_opinions.cohort_models import CohortModel, CohortModels, CohortModelsFile, Target
from inference.models.second_opinions.cohort_networks import Architecture, NetworkSettings, network_of
from inference.models.second_opinions.delicaite import SLICES, Delicaite, DelicaiteFile
from inference.models.second_opinions.interaction import InteractionNetwork, InteractionSettings
from inference.models.second_opinions.reduction import Reduction

RECORD = ClinicalRecord(
    {
        "age": ClinicalValue("age", 60.0, "years"),
        "afp": ClinicalValue("afp", 400.0, "ng/mL"),
        "albumin": ClinicalValue("albumin", 38.0, "g/L"),
        "bilirubin": ClinicalValue("bilirubin", 15.0, "umol/L"),
    }
)
"""What the scale of clinical values is made from."""


def write_cohort_models(
    folder: Path,
    architecture: Architecture = Architecture.SELECTION,
    therapies: tuple[Therapy, ...] = tuple(Therapy),
) -> Path:
    """Write a bundle of untrained networks; regimens are named as therapies."""
    torch.manual_seed(0)
    settings = NetworkSettings(architecture=architecture, side=24, patch=6, width=8, heads=2)
    models = tuple(
        CohortModel(
            therapy=t,
            title=t.upper(),
            regimens=(str(t),),
            target=Target.RESPONSE,
            median_score=0.5,
            patients=10,
            reached=5,
            overall_survival=None,
        )
        for t in therapies
    )
    file = CohortModelsFile(
        modality="CT",
        network=settings,
        clinical=ClinicalScale.of([RECORD], SELECTION_VARIABLES),
        landmark_months=3.0,
        models=models,
    )
    CohortModels(file, {t: network_of(settings).eval() for t in therapies}).write(folder)
    return _sealed(folder, str(architecture))


def write_delicaite(folder: Path) -> Path:
    """Write a bundle of an untrained network of one clinical value, two radiomics and two slice features."""
    torch.manual_seed(0)
    sizes = SliceSettings(modality="CT", patch=48, width=8, blocks=4, heads=2, bottleneck=4, prototypes=4)
    slices = SliceNetwork(sizes)
    write_slices(folder / SLICES, slices, Standard(np.zeros(sizes.features), np.ones(sizes.features)))
    _sealed(folder / SLICES, "slice_features")
    settings = InteractionSettings(inputs=5, hidden=0)
    network = InteractionNetwork(settings)
    torch.nn.init.constant_(network.interaction.weight, 0.2)
    file = DelicaiteFile(
        modality="CT",
        clinical=ClinicalScale(names=("age",), mean=(60.0,), sd=(10.0,)),
        radiomics=("liver_shape_volume", "no_such_feature"),
        network=settings,
        progression_months=6.0,
        progression_free=None,
    )
    two = Reduction(np.arange(2), np.zeros(2), np.full(2, 1e6), np.eye(2))
    Delicaite(file, network.eval(), two, two, Propensity(np.array([[0.0], [0.3]]))).write(folder)
    return _sealed(folder, "delicaite")


def _sealed(folder: Path, form: str) -> Path:
    seal(
        folder,
        {
            "name": "untrained",
            "version": "1",
            "trained_on": "simulated: nobody",
            "kind": str(BundleKind.SECOND_OPINION),
            "format": form,
        },
    )
    return folder
