"""A classifier with one hidden layer, evaluated with NumPy so that the node stays light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from inference.results import FloatArray

FIELDS = ("mean", "scale", "weight_1", "bias_1", "weight_2", "bias_2")
"""Arrays of one network in a file, each named ``NETWORK.FIELD``."""

LARGEST_INPUT = 6.0
"""Standardised inputs are kept within this: an image like none that was learned from decides less."""


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Softmax of a layer over tanh units of standardised inputs.

    Attributes
    ----------
    mean, scale : array, (inputs,)
    weight_1 : array, (inputs, units)
    bias_1 : array, (units,)
    weight_2 : array, (units, classes)
    bias_2 : array, (classes,)
    """

    mean: FloatArray
    scale: FloatArray
    weight_1: FloatArray
    bias_1: FloatArray
    weight_2: FloatArray
    bias_2: FloatArray

    @classmethod
    def of(cls, arrays: Mapping[str, FloatArray], name: str) -> Perceptron:
        """Return the network of one name from the arrays of a file.

        Raises
        ------
        KeyError
            An array is absent.
        ValueError
            The arrays do not fit each other.
        """
        found = cls(*(np.asarray(arrays[f"{name}.{field}"], dtype=np.float64) for field in FIELDS))
        inputs, units = found.weight_1.shape
        shapes = (found.mean.shape, found.scale.shape, found.bias_1.shape, found.weight_2.shape[:1])
        if shapes != ((inputs,), (inputs,), (units,), (units,)):
            raise ValueError(f"the arrays of the network {name} do not fit each other")
        return found

    def arrays(self, name: str) -> dict[str, FloatArray]:
        """Return the arrays by the names that a file gives them."""
        return {f"{name}.{field}": getattr(self, field) for field in FIELDS}

    def standardised(self, inputs: FloatArray) -> FloatArray:
        """Return inputs (n, inputs) in units of their spread; what is NaN becomes their mean."""
        scaled = (inputs - self.mean) / self.scale
        return np.asarray(np.clip(np.nan_to_num(scaled, nan=0.0), -LARGEST_INPUT, LARGEST_INPUT))

    def strangeness(self, inputs: FloatArray) -> float:
        """Return the root mean square distance of inputs (inputs,) from the mean, in units of spread."""
        known = inputs[np.isfinite(inputs)]
        scaled = (known - self.mean[np.isfinite(inputs)]) / self.scale[np.isfinite(inputs)]
        return float(np.sqrt(np.mean(scaled**2))) if known.size else float("inf")

    def probabilities(self, inputs: FloatArray) -> FloatArray:
        """Return the probability of each class, (n, classes), of inputs (n, inputs)."""
        hidden = np.tanh(self.standardised(inputs) @ self.weight_1 + self.bias_1)
        scores = hidden @ self.weight_2 + self.bias_2
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
