"""Which bundles are the defaults, and which code reads a bundle.

Loaders are named, not imported: the pipeline must not import torch before a bundle needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inference.bundle_store import SCHEMA, BundleDescription, BundleKind, describe, shipped_folders
from inference.errors import ModelError

DEFAULT_BUNDLES: Mapping[BundleKind, str] = {
    BundleKind.SEGMENTER: "segmenter",
    BundleKind.PHASE: "phase",
    BundleKind.GENERATOR: "generator",
    BundleKind.SURVIVAL: "cox_hcc_tace_seg",
}
"""Shipped bundle that serves each part until a site activates another; a part without one is left out."""

LOADERS: Mapping[tuple[BundleKind, str], str] = {
    (BundleKind.GENERATOR, "mechanistic"): "inference.models.mechanistic:MechanisticGenerator.from_bundle",
    (BundleKind.GENERATOR, "flow"): "inference.models.flow.generator:LearnedGenerator.from_bundle",
    (BundleKind.SURVIVAL, "cox"): "inference.models.cox:load_cox_model",
    (
        BundleKind.SURVIVAL,
        "protocol_survival",
    ): "inference.models.survival.model:ProtocolSurvivalModel.from_bundle",
    (BundleKind.PHASE, "phase_perceptron"): "inference.models.phase:PhaseClassifier.from_bundle",
    (BundleKind.SEGMENTER, "unet"): "inference.models.unet:UnetSegmenter.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "resnet50_mlp",
    ): "inference.models.second_opinions.resnet50_reader:Resnet50Reader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "dlop_combin",
    ): "inference.models.second_opinions.dlop_reader:DlopReader.from_bundle",
    (BundleKind.COMPARISON, "regimens"): "inference.comparison.stored:load_comparison",
    (
        BundleKind.IMAGE_VECTORS,
        "image_encoder",
    ): "inference.models.image_features.describer:StudyDescriber.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "radiomics_cox",
    ): "inference.models.second_opinions.radiomics_cox:RadiomicsCoxReader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "nomogram",
    ): "inference.models.second_opinions.nomogram:NomogramReader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "delicaite",
    ): "inference.models.second_opinions.delicaite:DelicaiteReader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "selection",
    ): "inference.models.second_opinions.cohort_reader:CohortReader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "vit",
    ): "inference.models.second_opinions.cohort_reader:CohortReader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "resnet_logistic",
    ): "inference.models.second_opinions.cohort_reader:CohortReader.from_bundle",
    (
        BundleKind.SECOND_OPINION,
        "clinical_logistic",
    ): "inference.models.second_opinions.cohort_reader:CohortReader.from_bundle",
}
"""What reads a bundle, by kind and format: a callable of the bundle's folder, as ``module:name``."""


def default_folders() -> dict[BundleKind, Path]:
    """Return the folder of the default bundle of each part that has one."""
    shipped = {folder.name: folder for folder in shipped_folders()}
    return {kind: shipped[name] for kind, name in DEFAULT_BUNDLES.items() if name in shipped}


def check_compatible(bundle: BundleDescription) -> None:
    """Refuse a bundle that this program cannot run.

    Raises
    ------
    ModelError
        Its schema, format or minimum version of the program is not met; the message says which.
    """
    name = bundle.info.name
    if bundle.schema > SCHEMA:
        raise ModelError(
            f"the model bundle {name} has schema {bundle.schema}; this program reads up to {SCHEMA}"
        )
    if (bundle.kind, bundle.format) not in LOADERS:
        known = ", ".join(sorted(f for kind, f in LOADERS if kind is bundle.kind)) or "none"
        raise ModelError(
            f"the model bundle {name} is a {bundle.kind} of format {bundle.format!r}; "
            f"this program reads {known}"
        )
    if bundle.minimum_program and _numbers(bundle.minimum_program, name) > _numbers(
        version("hepatocast"), name
    ):
        raise ModelError(
            f"the model bundle {name} needs version {bundle.minimum_program} of this program, "
            f"which is {version('hepatocast')}"
        )


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError as error:
        raise ModelError(f"{text!r} in the model bundle {name} is no version such as 0.1.0") from error


def load_model(name_or_path: str | Path, kind: BundleKind) -> Any:
    """Load the model of a bundle, verified and checked, by the loader of its kind and format.

    Raises
    ------
    ModelError
        The bundle is damaged, incompatible or of another kind, or its loader fails.
    """
    bundle = describe(name_or_path)
    if bundle.kind is not kind:
        raise ModelError(f"the model bundle {bundle.info.name} is a {bundle.kind}, not a {kind}")
    check_compatible(bundle)
    module, _, name = LOADERS[bundle.kind, bundle.format].partition(":")
    try:
        loader: Any = reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"the program part that reads the model bundle {bundle.info.name} is absent"
        ) from error
    return loader(bundle.folder)
