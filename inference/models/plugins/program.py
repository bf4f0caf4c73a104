"""What all site segmenters do alike: write the volume, run, read the labels, check, convert."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from inference.case import Case
from inference.errors import SegmentationMissing
from inference.model_settings import LabelMeaning
from inference.models.plugins.availability import Availability, NotAvailable
from inference.models.plugins.nifti import write_volume
from inference.models.plugins.outlines import segmentation_of_labels
from inference.results import Baseline, BundleInfo, Grid, Labels, Segmentation
from inference.settings import Frozen


class Runner(Protocol):
    """One kind of program."""

    def available(self) -> Availability:
        """Look whether program and weights are there."""
        ...

    def predict(self, image: Path, folder: Path, grid: Grid, modality: str) -> Labels:
        """Run the program on a NIfTI file in an empty folder; return labels on the grid."""
        ...

    @property
    def weights(self) -> Sequence[Path]:
        """Files and folders that decide what the program returns."""
        ...


class ProgramSegmenter:
    """A segmenter of the site made of a `Runner`."""

    def __init__(
        self,
        runner: Runner,
        settings: Frozen,
        name: str,
        modalities: Sequence[str],
        labels: Mapping[int, LabelMeaning],
        trained_on: str,
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._name = name
        self._modalities = tuple(modalities)
        self._labels = dict(labels)
        self._trained_on = trained_on

    @property
    def name(self) -> str:
        """What the site calls it."""
        return self._name

    @cached_property
    def info(self) -> BundleInfo:
        """Name and digest: over the settings and the files of the weights, read once for each job."""
        facts = {
            "settings": self._settings.model_dump(mode="json"),
            "weights": _contents(self._runner.weights),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return BundleInfo(self._name, "site", digest, self._trained_on)

    def available(self) -> Availability:
        """Look whether program and weights are there; nothing is run and nothing is downloaded."""
        return self._runner.available()

    def check(self, case: Case) -> None:
        """Raise `SegmentationMissing` where it is not available, or has no series to work on."""
        found = self.available()
        if isinstance(found, NotAvailable):
            raise SegmentationMissing(found.reason)
        if not any(s.modality in self._modalities for s in case.series):
            raise SegmentationMissing(f"it segments {' and '.join(self._modalities)} only")

    def segment(self, case: Case, baseline: Baseline) -> Segmentation:
        """Run the program on the primary series, and check what it returns.

        Raises
        ------
        SegmentationMissing
            The primary series is none that it can segment.
        ModelError
            It failed, or returned another grid or labels that are not in its table.
        ImplausibleSegmentation
            It found no liver.
        """
        primary = baseline.primary
        if primary.modality not in self._modalities:
            raise SegmentationMissing(f"it segments {' and '.join(self._modalities)} only")
        with tempfile.TemporaryDirectory(prefix="hepatocast-segmenter-") as name:
            folder = Path(name)
            image = folder / "image.nii"
            write_volume(primary.values(), primary.grid, image)
            work = folder / "work"
            work.mkdir()
            labels = self._runner.predict(image, work, primary.grid, primary.modality)
        return segmentation_of_labels(labels, self._labels, primary.grid, self.info)


def _contents(paths: Sequence[Path]) -> list[list[str]]:
    """Return name and digest of each file; what is not there has none."""
    files = [
        (root.parent, path)
        for root in paths
        for path in (sorted(root.rglob("*")) if root.is_dir() else [root])
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return [[path.relative_to(top).as_posix(), _sha256(path)] for top, path in files]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
