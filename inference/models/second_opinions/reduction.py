"""Many features as few: those that vary together become one number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.errors import ModelError
from inference.results import FloatArray

_CLIP_SD = 5.0


@dataclass(frozen=True, slots=True)
class Reduction:
    """Principal components of standardised features.

    Attributes
    ----------
    used : array of int, (used,)
        Places of the features that are used.
    mean, sd : array, (used,)
    rotation : array, (used, components)
        To components of variance 1 among the training patients.
    """

    used: np.ndarray
    mean: FloatArray
    sd: FloatArray
    rotation: FloatArray

    def apply(self, features: FloatArray) -> FloatArray:
        """Return components (n, components) of features (n, all); a missing feature counts as the mean."""
        scaled = (np.asarray(features, dtype=np.float64)[:, self.used] - self.mean) / self.sd
        return np.asarray(np.clip(np.nan_to_num(scaled, nan=0.0), -_CLIP_SD, _CLIP_SD) @ self.rotation)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Return what a bundle keeps."""
        parts = {"used": self.used, "mean": self.mean, "sd": self.sd, "rotation": self.rotation}
        return {f"{prefix}.{k}": torch.from_numpy(np.array(v, order="C")) for k, v in parts.items()}

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], prefix: str) -> Reduction:
        """Read what `tensors` gave.

        Raises
        ------
        ModelError
            Lengths differ.
        """
        used, mean, sd, rotation = (
            tensors[f"{prefix}.{k}"].numpy() for k in ("used", "mean", "sd", "rotation")
        )
        if not len(used) == len(mean) == len(sd) == len(rotation):
            raise ModelError("the features of a model bundle differ in length")
        return cls(used, mean, sd, rotation)
