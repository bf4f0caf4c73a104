"""The bundle that a training of the segmenter goes on from.

A network of another modality, or one trained on synthetic images, knows what an abdomen looks like: going
on from it takes a fraction of the steps, and what is not trained again stays in the new bundle as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.bundle_store import bundle_folder, load_metadata
from inference.errors import TrainingDataError
from inference.models.unet.segmenter import NetworkSpec, UnetSegmenter
from inference.results import BundleInfo


@dataclass(frozen=True, slots=True)
class Start:
    """A verified bundle of a segmenter, and what its metadata says."""

    info: BundleInfo
    folder: Path
    metadata: Mapping[str, Any]
    segmenter: UnetSegmenter

    @property
    def simulated(self) -> bool:
        """Whether its networks have seen synthetic images alone."""
        return self.info.trained_on.startswith("simulated")

    def weights(self, modality: str, stage: str, wanted: NetworkSpec) -> dict[str, Tensor]:
        """Return the weights that a network begins with: its own, else those of another modality.

        Raises
        ------
        TrainingDataError
            The bundle's network is built otherwise.
        """
        specs = self.segmenter.specs
        source = modality if modality in specs else min(specs)
        spec: NetworkSpec = getattr(specs[source], stage)
        if (spec.inputs, spec.classes, spec.widths) != (wanted.inputs, wanted.classes, wanted.widths):
            raise TrainingDataError(
                f"the {stage} network of the bundle {self.info.name} is built otherwise; train without it"
            )
        return dict(getattr(self.segmenter.networks[source], stage).state_dict())


def read_start(name_or_path: str | Path) -> Start:
    """Read a bundle to go on from: a shipped one by name, or any by its folder.

    Raises
    ------
    ModelError
        It is absent or damaged.
    """
    info, metadata = load_metadata(name_or_path)
    return Start(info, bundle_folder(name_or_path), metadata, UnetSegmenter.from_bundle(name_or_path))
