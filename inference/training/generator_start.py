"""The bundle that a training of the generator goes on from.

What an image looks like takes many patients to learn and differs little between sites; how patients fare
differs. So the outcome model of one modality can be fitted anew and all else kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.bundle_store import bundle_folder, load_metadata
from inference.errors import TrainingDataError
from inference.models.flow.generator import GeneratorSettings, LearnedGenerator
from inference.models.flow.network import NetworkSettings
from inference.models.flow.sampler import Draw
from inference.results import BundleInfo


@dataclass(frozen=True, slots=True)
class GeneratorStart:
    """A verified bundle of a learned generator, and what its metadata say."""

    info: BundleInfo
    folder: Path
    metadata: Mapping[str, Any]
    settings: GeneratorSettings

    def check(self, network: NetworkSettings) -> None:
        """Refuse a network that is built otherwise.

        Raises
        ------
        TrainingDataError
            Its weights would not fit.
        """
        if self.settings.network != network:
            raise TrainingDataError(
                f"the networks of the bundle {self.info.name} are built otherwise; train without it"
            )

    def weights(self, draw: Draw) -> dict[str, Tensor]:
        """Return the weights of a network, float32."""
        network = LearnedGenerator.from_bundle(self.folder, draw=draw).network
        return dict(network.cpu().state_dict())

    def copy_network(self, draw: Draw, out: Path) -> dict[str, Any]:
        """Copy a network to another bundle as it is; return what was measured of it."""
        shutil.copyfile(
            self.folder / "models" / f"{draw.value}.safetensors", out / "models" / f"{draw.value}.safetensors"
        )
        figures: dict[str, Any] = self._metrics("networks").get(draw.value, {})
        return figures

    def copy_outcome_model(self, modality: str, out: Path) -> dict[str, Any]:
        """Copy the outcome model of a modality to another bundle; return what was measured of it."""
        shutil.copytree(self.folder / modality.lower(), out / modality.lower(), dirs_exist_ok=True)
        return self._metrics(modality)

    def _metrics(self, part: str) -> dict[str, Any]:
        found: dict[str, Any] = self.metadata.get("metrics", {}).get(part, {})
        return found


def read_generator_start(name_or_path: str | Path) -> GeneratorStart:
    """Read a bundle to go on from: a shipped one by name, or any by its folder.

    Raises
    ------
    ModelError
        It is absent, damaged, or not a learned generator's.
    """
    info, metadata = load_metadata(name_or_path)
    settings = LearnedGenerator.from_bundle(name_or_path).settings
    return GeneratorStart(info, bundle_folder(name_or_path), metadata, settings)
