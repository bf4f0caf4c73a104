"""nnU-Net v2 as a segmenter: its command on one file, with a trained model folder.

nnU-Net is installed by the site (Apache 2.0); weights have licences of their own.

References
----------
Isensee et al 2021, Nat Methods 18:203.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.model_settings import NnunetSettings
from inference.models.plugins.availability import Availability, Available, NotAvailable, find_program
from inference.models.plugins.nifti import read_labels
from inference.models.plugins.running import run_program
from inference.results import Grid, Labels

CASE = "case"
CHECKPOINT = "checkpoint_final.pth"


@dataclass(frozen=True, slots=True)
class Nnunet:
    """Runs ``nnUNetv2_predict_from_modelfolder``."""

    settings: NnunetSettings

    @property
    def weights(self) -> Sequence[Path]:
        """Description of the model, and the checkpoints of the folds that are used."""
        folder = self.settings.folder
        checkpoints = [folder / f"fold_{fold}" / CHECKPOINT for fold in self.settings.folds]
        return (folder / "dataset.json", folder / "plans.json", *checkpoints)

    def available(self) -> Availability:
        """Look whether the program and the trained model are there, and fit this study's one image."""
        if find_program(self.settings.executable) is None:
            return NotAvailable(
                f"{self.settings.executable} is not on PATH; install nnU-Net v2 (pip install nnunetv2) "
                "or give its path as executable:"
            )
        missing = [p for p in self.weights if not p.is_file()]
        if missing:
            return NotAvailable(f"the model folder has no {missing[0].relative_to(self.settings.folder)}")
        return self._fits()

    def _fits(self) -> Availability:
        try:
            description = json.loads((self.settings.folder / "dataset.json").read_text(encoding="utf-8"))
            channels = len(description["channel_names"])
            ending = str(description["file_ending"])
        except (OSError, ValueError, KeyError, TypeError):
            return NotAvailable("dataset.json of the model folder cannot be read")
        if channels != 1:
            return NotAvailable(f"the model wants {channels} images; only models of one image are supported")
        if ending not in (".nii", ".nii.gz"):
            return NotAvailable(f"the model reads {ending} files; only NIfTI is supported")
        return Available(f"nnU-Net v2, {self.settings.folder.name}, folds {' '.join(self.settings.folds)}")

    def command(self, inputs: Path, outputs: Path) -> list[str]:
        """Return the command line that segments a folder of files."""
        return [
            *(str(find_program(self.settings.executable) or self.settings.executable),),
            *("-i", str(inputs), "-o", str(outputs), "-m", str(self.settings.folder.absolute())),
            *("-f", *self.settings.folds, "-chk", CHECKPOINT, "-device", self.settings.device),
            *("-npp", "1", "-nps", "1"),
        ]

    def predict(self, image: Path, folder: Path, grid: Grid, modality: str) -> Labels:
        """Run nnU-Net on a NIfTI file; return labels on the grid."""
        del modality
        description = json.loads((self.settings.folder / "dataset.json").read_text(encoding="utf-8"))
        ending = str(description["file_ending"])
        inputs, outputs = folder / "in", folder / "out"
        inputs.mkdir()
        outputs.mkdir()
        place(image, inputs / f"{CASE}_0000{ending}")
        environment = {
            name: os.environ.get(name, str(folder))
            for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        }
        name = self.settings.name
        run_program(name, self.command(inputs, outputs), folder, self.settings.time_limit_s, environment)
        return read_labels(outputs / f"{CASE}{ending}", grid, name)


def place(image: Path, target: Path) -> None:
    """Put a ``.nii`` file where a program looks for it, compressed where its name says so."""
    if target.suffix == ".gz":
        import gzip

        with image.open("rb") as source, gzip.open(target, "wb", compresslevel=1) as stream:
            shutil.copyfileobj(source, stream)
    else:
        shutil.copyfile(image, target)
