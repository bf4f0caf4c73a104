"""Image vectors: 256 numbers for a baseline or follow-up image, real or virtual.

The first 42 numbers are measurements with a name (`inference.models.image_features.measurements`), the
others were learned. All are standardised by the training patients; a measurement that is missing is 0,
their mean, and the flags among the measurements say so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from inference.bundle_store import bundle_folder, load_metadata
from inference.errors import ModelError
from inference.models.image_features.encoder import EncoderSettings, ImageEncoder
from inference.models.image_features.inputs import as_tensor, encoder_input
from inference.models.image_features.measurements import MEASURED, measurements
from inference.models.outcome.crops import PatientCrop
from inference.results import BundleInfo, FloatArray, Labels

DIMENSION = 256
"""Length of an image vector, as the study protocol asks."""
LEARNED = DIMENSION - len(MEASURED)
NAMES = (*MEASURED, *(f"learned_{i:03d}" for i in range(LEARNED)))
"""Names of the numbers of a vector."""

_SETTINGS = "encoder.json"
_WEIGHTS = "encoder.safetensors"
_STANDARD = "standard.safetensors"

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Standard:
    """Mean and standard deviation over the training images, (256,) each."""

    mean: FloatArray
    sd: FloatArray

    @classmethod
    def of(cls, raw: FloatArray) -> Standard:
        """Return those of raw vectors, (n, 256) with NaN for what is missing."""
        known = np.isfinite(raw)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, raw, 0.0).sum(axis=0) / count
        variance = np.where(known, (raw - mean) ** 2, 0.0).sum(axis=0) / count
        # A number that never changes carries nothing, and must not blow up.
        return cls(mean, np.where(variance > 1e-12, np.sqrt(variance), 1.0))

    def apply(self, raw: FloatArray) -> Vectors:
        """Return standardised vectors of raw ones, clipped at eight standard deviations."""
        scaled = np.clip((raw - self.mean) / self.sd, -8.0, 8.0)
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class ImageVectors:
    """Turns images into vectors; the same image gives the same vector.

    Attributes
    ----------
    info : BundleInfo
        ``trained_on`` says on which patients.
    """

    info: BundleInfo
    encoder: ImageEncoder
    standard: Standard

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> ImageVectors:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not that of an image encoder.
        """
        info, _metadata = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        try:
            stored = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            encoder = ImageEncoder(EncoderSettings.model_validate(stored))
            encoder.load_state_dict(load_file(folder / _WEIGHTS))
            standard = load_file(folder / _STANDARD)
            mean, sd = (standard[k].double().numpy() for k in ("mean", "sd"))
        except (OSError, ValueError, KeyError, ValidationError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the image encoder of the model bundle {folder.name} cannot be read") from error
        if mean.shape != (DIMENSION,) or encoder.settings.learned != LEARNED:
            raise ModelError(f"the image encoder of the model bundle {folder.name} is of another length")
        return cls(info, encoder.eval().requires_grad_(False), Standard(mean, sd))

    def image_vectors(self, crops: Sequence[PatientCrop]) -> Vectors:
        """Return the vectors of images of one patient: baseline, follow-ups, virtual time points.

        Parameters
        ----------
        crops : sequence of PatientCrop
            Baselines come from `inference.models.flow.study.crop_study`, virtual time points from
            `inference.models.image_features.time_points.virtual_crop`.

        Returns
        -------
        array of float32, (n, 256)
        """
        modality = self.encoder.settings.modality
        if not crops:
            return np.zeros((0, DIMENSION), dtype=np.float32)
        raw = [raw_vector(self.encoder, encoder_input(c, modality), measurements(c)) for c in crops]
        return self.standard.apply(np.stack(raw))


def raw_vector(encoder: ImageEncoder, stored: Labels, measured: FloatArray) -> FloatArray:
    """Return a vector before it is standardised, (256,) with NaN for measurements that are missing."""
    with torch.no_grad():
        learned = encoder(as_tensor(stored[None], encoder.settings.modality))[0]
    return np.concatenate([measured, learned.double().numpy()])


def write_encoder(folder: Path, encoder: ImageEncoder, standard: Standard) -> None:
    """Write the files of a bundle, metadata excepted."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(encoder.settings.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (folder / _SETTINGS).write_text(text, encoding="utf-8")
    save_file(dict(encoder.weights()), folder / _WEIGHTS)
    tensors = {"mean": torch.from_numpy(standard.mean), "sd": torch.from_numpy(standard.sd)}
    save_file(tensors, folder / _STANDARD)
