"""From the share of draws to a probability that holds: the calibration map of confidence.

The share of parameter draws with a benefit above 3 months is not yet a probability: the model that is drawn
from is never quite the true one. On cohorts of known truth (seeds apart from those that results are reported
on) the share is compared with how often the benefit was real; a monotone map is kept in `confidence.yaml`.
It is the most cautious of the maps of several scenarios: a confidence must hold in each, not on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

from inference.results import FloatArray

PACKAGE, TABLE = "inference.comparison", "confidence.yaml"


@dataclass(frozen=True, slots=True)
class ConfidenceMap:
    """A monotone, piecewise linear map of the unit interval.

    Raises
    ------
    ValueError
        The points do not ascend, or leave the unit interval.
    """

    raw: tuple[float, ...]
    calibrated: tuple[float, ...]

    def __post_init__(self) -> None:
        raw, calibrated = np.asarray(self.raw), np.asarray(self.calibrated)
        if len(raw) != len(calibrated) or len(raw) < 2 or (np.diff(raw) <= 0).any():
            raise ValueError("the raw confidences of a map must ascend")
        if (np.diff(calibrated) < 0).any() or calibrated.min() < 0 or calibrated.max() > 1:
            raise ValueError("a map of confidence must not descend, and stays between 0 and 1")

    def of(self, raw: FloatArray) -> FloatArray:
        """Return calibrated confidences of the same shape."""
        return np.asarray(np.interp(raw, self.raw, self.calibrated))

    def one(self, raw: float) -> float:
        """Return one calibrated confidence."""
        return float(np.interp(raw, self.raw, self.calibrated))


IDENTITY = ConfidenceMap((0.0, 1.0), (0.0, 1.0))


def load_confidence_map() -> ConfidenceMap:
    """Return the map that is shipped."""
    text = resources.files(PACKAGE).joinpath(TABLE).read_text(encoding="utf-8")
    points = yaml.safe_load(text)["points"]
    return ConfidenceMap(tuple(float(p[0]) for p in points), tuple(float(p[1]) for p in points))


def learn_confidence_map(raw: FloatArray, real: FloatArray, bins: int = 40) -> ConfidenceMap:
    """Learn a map by isotonic regression of outcomes in bins of equal width.

    Parameters
    ----------
    raw : array, (pairs,)
        Shares of draws.
    real : array, (pairs,)
        1 where the true benefit was above the rule's, otherwise 0.
    """
    index = np.minimum((raw * bins).astype(np.intp), bins - 1)
    counts = np.bincount(index, minlength=bins)
    kept = counts > 0
    means = np.bincount(index, raw, bins)[kept] / counts[kept]
    rates = np.bincount(index, real, bins)[kept] / counts[kept]
    fitted = isotonic(rates, counts[kept].astype(np.float64))
    # The ends belong to the map as well; outside the data it stays flat.
    inner = (means > 0.0) & (means < 1.0)
    return ConfidenceMap(
        (0.0, *(float(m) for m in means[inner]), 1.0),
        (float(fitted[0]), *(float(f) for f in fitted[inner]), float(fitted[-1])),
    )


def most_cautious(maps: Sequence[ConfidenceMap]) -> ConfidenceMap:
    """Return the least of several maps, at steps of .025."""
    raw = np.linspace(0.0, 1.0, 41)
    least = np.min([m.of(raw) for m in maps], axis=0)
    return ConfidenceMap(tuple(float(r) for r in raw), tuple(float(c) for c in least))


def isotonic(values: FloatArray, weights: Sequence[float] | FloatArray) -> FloatArray:
    """Return the ascending values nearest to `values` in weighted least squares.

    Pool adjacent violators: Barlow et al. 1972, Statistical Inference under Order Restrictions, 1.2.
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (float(value), float(weight), 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, total, length = blocks.pop()
            both = total + block[1]
            block = ((mean * total + block[0] * block[1]) / both, both, length + block[2])
        blocks.append(block)
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])


def write_confidence_map(learned: ConfidenceMap, path: Path, source: str) -> None:
    """Write a map as `load_confidence_map` reads it, with what it was learned from."""
    points = [
        [round(float(a), 4), round(float(b), 4)] for a, b in zip(learned.raw, learned.calibrated, strict=True)
    ]
    head = "# Share of draws with a benefit beyond the rule's, and how often the benefit was real.\n"
    text = head + yaml.safe_dump({"source": source, "points": points}, default_flow_style=None, width=100)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
