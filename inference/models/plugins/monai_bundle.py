"""A MONAI bundle as a segmenter: its own transforms, network and inferer, in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.model_settings import MonaiBundleSettings
from inference.models.plugins.availability import Availability, Available, NotAvailable
from inference.models.plugins.nifti import read_labels
from inference.models.plugins.running import run_program
from inference.results import Grid, Labels

RUNNER_MODULE = "inference.models.plugins.monai_runner"


@dataclass(frozen=True, slots=True)
class MonaiBundle:
    """Runs a bundle by `inference.models.plugins.monai_runner`."""

    settings: MonaiBundleSettings

    @property
    def config(self) -> Path:
        """The configuration of inference."""
        return self.settings.folder / self.settings.config

    @property
    def weights(self) -> Sequence[Path]:
        """The whole bundle: its configuration decides as much as its weights."""
        return (self.settings.folder,)

    def available(self) -> Availability:
        """Look whether configuration and weights are there."""
        if not self.settings.folder.is_dir():
            return NotAvailable(f"there is no folder {self.settings.folder}")
        if not self.config.is_file():
            return NotAvailable(f"the bundle has no {self.settings.config}; name its file with config:")
        if not (self.settings.folder / self.settings.weights).is_file():
            return NotAvailable(f"the bundle has no {self.settings.weights}; name its file with weights:")
        return Available(f"MONAI bundle {self.settings.folder.name}")

    def command(self, image: Path, output: Path) -> list[str]:
        """Return the command line that segments one file."""
        folder = self.settings.folder.absolute()
        return [
            *(sys.executable, "-m", RUNNER_MODULE),
            *("--bundle", str(folder), "--config", str(folder / self.settings.config)),
            *("--weights", str(folder / self.settings.weights), "--device", self.settings.device),
            *("--image", str(image), "--output", str(output)),
        ]

    def predict(self, image: Path, folder: Path, grid: Grid, modality: str) -> Labels:
        """Run the bundle on a NIfTI file; return labels on the grid."""
        del modality
        output = folder / "labels.nii"
        root = Path(__file__).resolve().parents[3]
        environment = {"PYTHONPATH": str(root)}
        name, limit_s = self.settings.name, self.settings.time_limit_s
        run_program(name, self.command(image, output), folder, limit_s, environment)
        return read_labels(output, grid, name)
