"""The contrast phase classifier of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file

from inference.bundle_store import bundle_folder, load_metadata, read_parameters
from inference.case import Phase
from inference.errors import ModelError
from inference.imaging.phase_features import (
    IMAGE_FEATURES,
    ORGANS,
    PHASES,
    image_features,
    organ_features,
)
from inference.models.phase.network import Perceptron
from inference.results import BundleInfo, FloatArray, Grid, Voxels
from inference.settings import Frozen

SHIPPED = "phase"
STRANGE_IMAGE, STRANGE_ORGANS = 1.8, 2.2
"""Inputs farther than this from those that were learned from are not judged; 1 is the usual distance.

Images of simulated scans had 0.4 to 1.4 (T2, which echo times tell, up to 2.0), phantoms of spheres above
2. The few values of organs scatter more: up to 2.15.
"""
WEIGHTS = "classifier.safetensors"
DESCRIPTION = "classifier.json"


class NetworkDescription(Frozen):
    """What the outputs of one network are, and how many inputs it has."""

    phases: tuple[Phase, ...]
    inputs: int = Field(gt=0)


class ClassifierDescription(Frozen):
    """The networks of a bundle: ``ct_organs``, ``ct_image``, ``mr_organs``, ``mr_image``."""

    networks: Mapping[str, NetworkDescription]


_INPUTS = {"organs": 2 * len(ORGANS), "image": IMAGE_FEATURES}


@dataclass(frozen=True, slots=True)
class PhaseClassifier:
    """Tells the contrast phase from organ medians or from an image; phases are equally likely before."""

    info: BundleInfo
    networks: Mapping[str, Perceptron]

    @classmethod
    def from_bundle(cls, name_or_path: str | Path = SHIPPED) -> PhaseClassifier:
        """Load the classifier of a bundle.

        Raises
        ------
        ModelError
            The bundle is absent, damaged or not of this form.
        """
        info, _ = load_metadata(name_or_path)
        described = read_parameters(name_or_path, DESCRIPTION, ClassifierDescription).networks
        try:
            arrays = load_file(bundle_folder(name_or_path) / WEIGHTS)
            networks = {name: Perceptron.of(arrays, name) for name in network_names()}
            fits = all(_fits(name, described[name], networks[name]) for name in network_names())
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ModelError(f"the networks of the model bundle {info.name} cannot be read") from error
        if not fits:
            raise ModelError(f"the networks of the model bundle {info.name} are not those of this program")
        return cls(info, networks)

    def from_organs(self, organs: Mapping[str, float], modality: str) -> Mapping[Phase, float] | None:
        """Return the probability of each phase from organ values.

        None where nothing but liver is known, or the values are like none that were learned from.

        Parameters
        ----------
        organs : mapping
            By the names of `phase_features.ORGANS`: HU in CT, signal in MR; absent or NaN is missing.
        """
        known = {name for name, value in organs.items() if np.isfinite(value)}
        if "liver" not in known or not known - {"liver", "liver_vessels"}:
            return None
        features = organ_features(organs, modality)
        values, missing = np.split(features, 2)
        # How much is missing is not strange: segmentations have all organs, or the liver and one more.
        measured = np.where(missing > 0, np.nan, values)
        network = self.networks[f"{modality.lower()}_organs"]
        looked_at = np.concatenate([measured, np.full_like(measured, np.nan)])
        if network.strangeness(looked_at) > STRANGE_ORGANS:
            return None
        return _probabilities(network, features, modality)

    def from_image(self, values: Voxels, grid: Grid, modality: str) -> Mapping[Phase, float] | None:
        """Return the probability of each phase from a volume.

        None where it shows too little of a body, or is like none that was learned from.
        """
        features = image_features(values, grid, modality)
        if features is None:
            return None
        network = self.networks[f"{modality.lower()}_image"]
        if network.strangeness(features) > STRANGE_IMAGE:
            return None
        return _probabilities(network, features, modality)


def _probabilities(network: Perceptron, features: FloatArray, modality: str) -> Mapping[Phase, float]:
    shares = network.probabilities(features[None])[0]
    return {phase: float(share) for phase, share in zip(PHASES[modality], shares, strict=True)}


def network_names() -> tuple[str, ...]:
    """Return the names of the networks that a bundle has."""
    return tuple(f"{modality.lower()}_{kind}" for modality in PHASES for kind in _INPUTS)


def describe_networks() -> ClassifierDescription:
    """Return the description that goes into a bundle of this program."""
    return ClassifierDescription(
        networks={
            f"{modality.lower()}_{kind}": NetworkDescription(phases=phases, inputs=inputs)
            for modality, phases in PHASES.items()
            for kind, inputs in _INPUTS.items()
        }
    )


def _fits(name: str, described: NetworkDescription, network: Perceptron) -> bool:
    expected = describe_networks().networks[name]
    shape = (network.weight_1.shape[0], network.weight_2.shape[1], network.bias_2.shape)
    wanted = (expected.inputs, len(expected.phases), (len(expected.phases),))
    return described == expected and shape == wanted
