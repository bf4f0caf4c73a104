"""Cox model of few chosen features: radiomics LASSO-Cox, a comparator of the learned models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from inference.bundle_store import read_file, write_file
from inference.errors import ModelError
from inference.results import FloatArray
from inference.settings import Frozen

FILE = "lasso_cox.json"
CLIP_SD = 5.0
"""Features further from the mean than so many standard deviations count as that far."""


class LassoCoxFile(Frozen):
    """``lasso_cox.json`` of a bundle.

    Only features that were chosen are kept. A missing value counts as the mean of the training patients.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    beta: tuple[float, ...] = Field(description="per standard deviation")
    times: tuple[float, ...] = Field(description="months at which somebody had the event")
    hazard: tuple[float, ...] = Field(description="cumulative hazard at mean features")
    penalty: float = Field(ge=0)

    @model_validator(mode="after")
    def _same_lengths(self) -> LassoCoxFile:
        if not len(self.names) == len(self.mean) == len(self.sd) == len(self.beta):
            raise ValueError("names, mean, sd and beta differ in length")
        if len(self.times) != len(self.hazard):
            raise ValueError("times and hazard differ in length")
        return self


@dataclass(frozen=True, slots=True)
class LassoCox:
    """Risk and survival from named features."""

    file: LassoCoxFile

    @classmethod
    def read(cls, folder: Path) -> LassoCox:
        """Read the model of a verified bundle.

        Raises
        ------
        ModelError
            The file is absent or not valid.
        """
        return cls(read_file(folder, FILE, LassoCoxFile))

    def write(self, folder: Path) -> None:
        """Write the file of a bundle."""
        write_file(folder, FILE, self.file)

    def log_risk(self, features: Mapping[str, float]) -> float:
        """Return the log hazard ratio to a patient of mean features; NaN or absent counts as the mean.

        Raises
        ------
        ModelError
            No feature of the model is there at all: that is no patient of mean risk.
        """
        file = self.file
        row = np.array([features.get(name, np.nan) for name in file.names], dtype=np.float64)
        if file.names and not np.isfinite(row).any():
            raise ModelError("none of the features of the lasso Cox model could be measured")
        scaled = np.nan_to_num((row - np.array(file.mean)) / np.array(file.sd), nan=0.0)
        return float(np.clip(scaled, -CLIP_SD, CLIP_SD) @ np.array(file.beta))

    def survival(self, features: Mapping[str, float], months: FloatArray) -> FloatArray:
        """Return the probability to live longer than each of `months`, (t,)."""
        place = np.searchsorted(np.array(self.file.times), np.asarray(months), side="right")
        hazard = np.concatenate([[0.0], self.file.hazard])[place]
        return np.asarray(np.exp(-hazard * np.exp(self.log_risk(features))))
