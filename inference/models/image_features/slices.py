"""Self-supervised features of tumour slices, as DELICAITE takes them.

The three slices with the largest tumour, cut to the rectangle of the liver, windowed at 40 +- 125 HU
and normalised, go through a small vision transformer that was trained by self-distillation without
labels (Caron et al. 2021, ICCV); the output of its fourth block is the feature. The study took the fourth
block of DINOv2 (An et al., J Hepatocell Carcinoma, DELICAITE), whose weights are not ours to ship and were
trained on photographs; ours is small and trained on liver slices only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets.vit import ViT
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inference.bundle_store import bundle_folder, load_metadata
from inference.errors import ModelError
from inference.models.image_features.vectors import Standard
from inference.models.outcome.crops import PatientCrop
from inference.results import BundleInfo, FloatArray, Voxels
from inference.settings import Frozen

SIDE = 96
"""Voxels of a slice, after it was cut to the liver and scaled."""
SLICES = 3
BLOCK = 4
"""Block whose output is the feature, counted from 1."""
_WINDOW = {"CT": (-85.0, 165.0), "MR": (0.0, 2500.0)}
_SETTINGS, _WEIGHTS, _STANDARD = "slices.json", "slices.safetensors", "standard.safetensors"


class SliceSettings(Frozen):
    """``slices.json`` of a bundle."""

    modality: str = Field(pattern="^(CT|MR)$")
    patch: int = Field(12, gt=0, description="voxels of a patch, along each side")
    width: int = Field(96, gt=0, description="length of a token")
    blocks: int = Field(8, ge=BLOCK)
    heads: int = Field(4, gt=0)
    bottleneck: int = Field(64, gt=0)
    prototypes: int = Field(256, gt=1)

    @property
    def features(self) -> int:
        """Length of the features: class token and mean of the patches."""
        return 2 * self.width


class SliceNetwork(nn.Module):
    """Vision transformer of two phases, with the head that self-distillation needs."""

    def __init__(self, settings: SliceSettings) -> None:
        super().__init__()
        self.settings = settings
        self.transformer = ViT(
            in_channels=2,
            img_size=(SIDE, SIDE),
            patch_size=(settings.patch, settings.patch),
            hidden_size=settings.width,
            mlp_dim=4 * settings.width,
            num_layers=settings.blocks,
            num_heads=settings.heads,
            classification=True,
            num_classes=settings.bottleneck,
            post_activation="none",
            spatial_dims=2,
        )
        self.prototypes = nn.Linear(settings.bottleneck, settings.prototypes, bias=False)

    def forward(self, slices: Tensor) -> Tensor:
        """Return the similarity to each prototype, (n, prototypes), of slices (n, 2, y, x)."""
        code = nn.functional.normalize(self.transformer(slices)[0], dim=1)
        weights = nn.functional.normalize(self.prototypes.weight, dim=1)
        return nn.functional.linear(code, weights)

    def features(self, slices: Tensor) -> Tensor:
        """Return the features of slices, (n, 2 * width)."""
        tokens: Tensor = self.transformer(slices)[1][BLOCK - 1]
        return torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)


def tumour_slices(crop: PatientCrop, modality: str) -> Voxels | None:
    """Return the slices with the largest tumour, (3, 2, 96, 96), each normalised; None without tumour.

    Where the tumour has fewer than three slices, its largest is repeated. A phase that was not acquired is
    0 everywhere.
    """
    area = (crop.lesion > 0).sum(axis=(1, 2))
    if not area.any():
        return None
    order = np.argsort(-area, kind="stable")[:SLICES]
    chosen = sorted(int(z) if area[z] > 0 else int(order[0]) for z in order)
    return np.stack([_normalised(crop, z, modality) for z in chosen])


def _normalised(crop: PatientCrop, z: int, modality: str) -> Voxels:
    inside = (crop.liver[z] >= 0.5) | (crop.lesion[z] > 0)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    part = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    low, high = _WINDOW[modality]
    phases = []
    for image in crop.images[:, z]:
        seen = np.isfinite(image[part])
        values = np.clip(np.nan_to_num(image[part], nan=low), low, high)
        mean, sd = float(values.mean()), float(values.std())
        scaled = (values - mean) / max(sd, 1e-3)
        phases.append(np.where(seen, scaled, 0.0).astype(np.float32))
    return _scaled(np.stack(phases))


def _scaled(phases: Voxels) -> Voxels:
    tensor = torch.from_numpy(np.ascontiguousarray(phases))[None]
    sized = nn.functional.interpolate(tensor, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return np.asarray(sized[0].numpy())


@dataclass(frozen=True, slots=True)
class SliceFeatures:
    """Self-supervised features of a patient."""

    info: BundleInfo
    network: SliceNetwork
    standard: Standard

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> SliceFeatures:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not that of slice features.
        """
        info, _metadata = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        try:
            stored = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
            network = SliceNetwork(SliceSettings.model_validate(stored))
            network.load_state_dict(load_file(folder / _WEIGHTS))
            standard = load_file(folder / _STANDARD)
            mean, sd = (standard[k].double().numpy() for k in ("mean", "sd"))
        except (OSError, ValueError, KeyError, ValidationError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"the slice features of the model bundle {folder.name} cannot be read"
            ) from error
        return cls(info, network.eval().requires_grad_(False), Standard(mean, sd))

    def slice_features(self, crop: PatientCrop) -> FloatArray:
        """Return the features of a patient, (features,), standardised; all NaN without tumour."""
        settings = self.network.settings
        slices = tumour_slices(crop, settings.modality)
        if slices is None:
            return np.full(settings.features, np.nan)
        return self.standard.apply(raw_features(self.network, slices)).astype(np.float64)


def raw_features(network: SliceNetwork, slices: Voxels) -> FloatArray:
    """Return the mean features of slices, before they are standardised."""
    with torch.no_grad():
        found = network.features(torch.from_numpy(slices)).mean(dim=0)
    return np.asarray(found.double().numpy())


def write_slices(folder: Path, network: SliceNetwork, standard: Standard) -> None:
    """Write the files of a bundle, metadata excepted."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(network.settings.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"
    (folder / _SETTINGS).write_text(text, encoding="utf-8")
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, folder / _WEIGHTS)
    tensors = {"mean": torch.from_numpy(standard.mean), "sd": torch.from_numpy(standard.sd)}
    save_file(tensors, folder / _STANDARD)
