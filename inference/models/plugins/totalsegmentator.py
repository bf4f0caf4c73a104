"""TotalSegmentator as a segmenter: its command on one file, with weights that are there already.

TotalSegmentator is installed by the site (Apache 2.0). The weights of its tasks ``total`` and
``total_mr`` are free for any use; those of some other tasks need a licence of their authors, which the
site obtains. Missing weights make it not available: nothing is downloaded at run time.

References
----------
Wasserthal et al 2023, Radiol Artif Intell 5:e230024.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.model_settings import LabelMeaning, TotalSegmentatorSettings
from inference.models.plugins.availability import Availability, Available, NotAvailable, find_program
from inference.models.plugins.nifti import read_labels
from inference.models.plugins.running import run_program
from inference.results import Grid, Labels

LIVER, TUMOUR = 1, 2
LABELS: Mapping[int, LabelMeaning] = {LIVER: LabelMeaning.LIVER, TUMOUR: LabelMeaning.TUMOUR}
"""Values that `TotalSegmentator.predict` makes of the masks that the program writes."""

ORGAN_TASKS: Mapping[str, str] = {"CT": "total", "MR": "total_mr"}
DATASETS: Mapping[tuple[str, str], int] = {
    ("CT", "full"): 291,
    ("CT", "fast"): 297,
    ("MR", "full"): 850,
    ("MR", "fast"): 852,
}
"""Number of the data set whose weights hold the liver; folders are named ``DatasetNNN_...``."""


@dataclass(frozen=True, slots=True)
class TotalSegmentator:
    """Runs ``TotalSegmentator``: once for the liver, and once for tumours where a task is named."""

    settings: TotalSegmentatorSettings

    @property
    def weights(self) -> Sequence[Path]:
        """Folders of the weights that are there."""
        return tuple(f for m in self.settings.modalities for f in self._weights_of(m))

    def _weights_of(self, modality: str) -> list[Path]:
        number = DATASETS[modality, "fast" if self.settings.fast else "full"]
        return sorted(self._weights_folder().glob(f"Dataset{number:03d}_*"))

    def _weights_folder(self) -> Path:
        if self.settings.weights_folder is not None:
            return self.settings.weights_folder
        if "TOTALSEG_WEIGHTS_PATH" in os.environ:
            return Path(os.environ["TOTALSEG_WEIGHTS_PATH"])
        home = os.environ.get("TOTALSEG_HOME_DIR")
        return (Path(home) if home else Path.home() / ".totalsegmentator") / "nnunet" / "results"

    def available(self) -> Availability:
        """Look whether the program and the weights of the liver are there."""
        if find_program(self.settings.executable) is None:
            return NotAvailable(
                f"{self.settings.executable} is not on PATH; install it (pip install TotalSegmentator) "
                "or give its path as executable:"
            )
        for modality in self.settings.modalities:
            if not self._weights_of(modality):
                task = ORGAN_TASKS[modality]
                return NotAvailable(
                    f"the weights of its task {task} are not in {self._weights_folder()}; fetch them once, "
                    f"where a network is allowed, with: totalseg_download_weights -t {task}"
                )
        tumours = self.settings.tumour_task or "no task for tumours: outlines have to be completed by hand"
        return Available(f"TotalSegmentator, tumours: {tumours}")

    def command(self, image: Path, output: Path, task: str, classes: Sequence[str]) -> list[str]:
        """Return the command line of one task; `classes` are what is wanted of an organ task."""
        program = str(find_program(self.settings.executable) or self.settings.executable)
        command = [program, "-i", str(image), "-o", str(output), "--task", task]
        if classes:
            command += ["--roi_subset", *classes]
        if self.settings.fast and task in ORGAN_TASKS.values():
            command.append("--fast")
        return [*command, "--device", self.settings.device, "--quiet"]

    def predict(self, image: Path, folder: Path, grid: Grid, modality: str) -> Labels:
        """Run the tasks on a NIfTI file; return liver and tumours on the grid."""
        labels = np.zeros(grid.shape, dtype=np.uint8)
        labels[self._mask(image, folder, grid, ORGAN_TASKS[modality], "liver")] = LIVER
        if self.settings.tumour_task is not None:
            task = self.settings.tumour_task
            labels[self._mask(image, folder, grid, task, self.settings.tumour_class)] = TUMOUR
        return labels

    def _mask(self, image: Path, folder: Path, grid: Grid, task: str, name: str) -> Labels:
        output = folder / task
        output.mkdir()
        classes = [name] if task in ORGAN_TASKS.values() else []
        command = self.command(image, output, task, classes)
        environment = {"TOTALSEG_WEIGHTS_PATH": str(self._weights_folder())}
        run_program(self.settings.name, command, folder, self.settings.time_limit_s, environment)
        mask = read_labels(output / f"{name}.nii.gz", grid, self.settings.name)
        return np.asarray(mask > 0)
