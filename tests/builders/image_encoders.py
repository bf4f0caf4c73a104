"""An image encoder of random weights as a bundle: quick, and of the form that a trained one has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from inference.bundle_store import BundleKind, seal
from inference.models.image_features.describer import FORMAT
from inference.models.image_features.encoder import EncoderSettings, ImageEncoder
from inference.models.image_features.inputs import encoder_input
from inference.models.image_features.measurements import measurements
from inference.models.image_features.vectors import LEARNED, Standard, raw_vector, write_encoder
from tests.builders.liver_crops import liver_crop


def small_encoder(seed: int = 0, modality: str = "CT") -> ImageEncoder:
    """Return an encoder that nothing was taught."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = EncoderSettings(modality=modality, widths=(8, 8, 16), learned=LEARNED, targets=("a", "b"))
        return ImageEncoder(settings).eval()


def write_small_encoder(folder: Path, seed: int = 0, modality: str = "CT") -> Path:
    """Write it as a sealed bundle, standardised by three crops."""
    encoder = small_encoder(seed, modality)
    crops = [liver_crop(seed=s, arterial_hu=90.0 + 20 * s) for s in range(3)]
    raw = np.stack([raw_vector(encoder, encoder_input(c, modality), measurements(c)) for c in crops])
    write_encoder(folder, encoder, Standard.of(raw))
    told = {"kind": BundleKind.IMAGE_VECTORS.value, "format": FORMAT}
    seal(folder, {"name": "small encoder", "version": "1", "trained_on": "simulated: three crops", **told})
    return folder
