"""The outcome model: means by ridge and trees, and the distribution around them from similar patients.

The mean of each target is mixed of two: one linear in features, doses and months (a part that all
regimens share, and a part of each regimen), and one of boosted trees. The distribution at a mean is that
of training patients of the same regimen and month whose cross-fitted mean was nearest, so that it is
skewed, bounded and wide where theirs was ("analogues"). A conformal factor widens or narrows it until
its intervals cover what they say.

Targets are correlated with each other and over months through a Gaussian copula; its normal numbers
belong to the patient, so that every regimen is drawn with the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from scipy.special import betainc, ndtr, ndtri
from scipy.stats import poisson

from inference.errors import ModelError, UnsupportedRegimen
from inference.models.outcome.design import Standardiser, hats, own_design, shared_design, tree_design
from inference.models.outcome.doses import doses_given
from inference.models.outcome.trees import Trees
from inference.results import FloatArray
from inference.settings import Frozen, Regimen

TARGETS = ("viable", "necrosis", "lipiodol")
FLOOR = 0.03
"""Added to a ratio before its logarithm is taken; a tumour without viable part has the log of this."""
GRID_MONTHS = np.arange(0.0, 25.0)
"""Months at which the normal numbers of a patient are drawn."""
_FEW = 30
_NOTHING = 0.004

Features = dict[str, float]


class OutcomeSettings(Frozen):
    """What a fitted outcome model is, apart from its arrays."""

    names: tuple[str, ...]
    regimens: tuple[str, ...]
    months: tuple[float, ...]
    spread: float = Field(gt=0, description="conformal factor of the normal numbers")
    neighbours: int = Field(gt=0)
    month_length: float = Field(gt=0, description="of the correlation over log months")
    new_lesion_log_ml: tuple[float, float, float] = Field(
        description="volume of a new lesion: mean log ml at three months, slope in log months, deviation"
    )
    lesion_sd: float = Field(ge=0, description="deviation of a lesion's log ratio from the patient's")


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal numbers of one patient: the same for every regimen.

    Attributes
    ----------
    targets : array, (samples, 4, months of the grid)
        Viable, necrosis, lipiodol and new lesions; correlation as the model found it.
    lesion : array, (samples, 256)
        One for each lesion number; those of new lesions give their size.
    """

    targets: FloatArray
    lesion: FloatArray

    def alone(self, sample: int) -> Noise:
        """Return the numbers of one of the samples."""
        return Noise(self.targets[[sample]], self.lesion[[sample]])

    def at(self, months: float) -> FloatArray:
        """Return the numbers at a month, (samples, 4)."""
        place = float(np.clip(months, GRID_MONTHS[0], GRID_MONTHS[-1]))
        low = int(place)
        high = min(low + 1, len(GRID_MONTHS) - 1)
        weight = place - low
        mixed = (1.0 - weight) * self.targets[:, :, low] + weight * self.targets[:, :, high]
        # Between two months that are not fully correlated the mixture has less than unit variance.
        return np.asarray(mixed)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Samples of one regimen at one month; s samples.

    Attributes
    ----------
    viable, necrosis, lipiodol : array, (s,)
        Volumes over the viable volume at baseline (viable) and over the total one (others).
    new_lesions : array of int, (s,)
    """

    viable: FloatArray
    necrosis: FloatArray
    lipiodol: FloatArray
    new_lesions: FloatArray


@dataclass(frozen=True, slots=True)
class OutcomeModel:
    """A fitted model; `arrays` are named in `inference.training.outcome`."""

    settings: OutcomeSettings
    arrays: dict[str, FloatArray]

    # -------------------------------------------------------------- files

    @classmethod
    def read(cls, folder: Path) -> OutcomeModel:
        """Read ``outcome.safetensors`` and ``outcome.json`` of a bundle.

        Raises
        ------
        ModelError
            A file is absent or damaged.
        """
        try:
            text = (folder / "outcome.json").read_text(encoding="utf-8")
            settings = OutcomeSettings.model_validate(json.loads(text))
            arrays = {k: v.astype(np.float64) for k, v in load_file(folder / "outcome.safetensors").items()}
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"the outcome model of the bundle {folder.name} cannot be read") from error
        return cls(settings, arrays)

    def write(self, folder: Path) -> None:
        """Write the model into a bundle."""
        save_file({k: v.astype(np.float32) for k, v in self.arrays.items()}, folder / "outcome.safetensors")
        text = self.settings.model_dump_json(indent=1)
        (folder / "outcome.json").write_text(text + "\n", encoding="utf-8")

    # -------------------------------------------------------------- prediction

    @property
    def horizon(self) -> float:
        """Last month that the model was trained on."""
        return self.settings.months[-1]

    def _index(self, regimen: Regimen) -> int:
        try:
            return self.settings.regimens.index(regimen.id)
        except ValueError as error:
            raise UnsupportedRegimen(
                f"the generator was not trained on the regimen {regimen.name}"
            ) from error

    @property
    def trees(self) -> Trees:
        """The trees that have a share in the means."""
        names = ("tree_start", "tree_feature", "tree_threshold", "tree_value")
        return Trees(*(self.arrays[name] for name in names))

    def standardised(self, features: Features) -> FloatArray:
        """Return the features of one patient as a row, (columns,)."""
        a = self.arrays
        standardiser = Standardiser(self.settings.names, a["mean"], a["scale"], a["flagged"])
        return np.asarray(standardiser.matrix([features])[0])

    def means(self, x: FloatArray, regimen: Regimen, months: float) -> tuple[FloatArray, float]:
        """Return the mean of each log ratio, (3,), and the expected number of new lesions.

        Raises
        ------
        UnsupportedRegimen
            The model was not trained on this regimen.
        """
        r = self._index(regimen)
        rows, at = x[None], np.array([months])
        doses = doses_given(regimen, months)[None]
        basis = hats(at, np.array(self.settings.months))
        shared = shared_design(rows, doses, at)
        own = own_design(rows, basis)
        ridge = self.arrays["shared_intercept"] + shared @ self.arrays["shared"] + own @ self.arrays["own"][r]
        which = np.eye(len(self.settings.regimens))[[r]]
        grown = self.trees.predict(tree_design(rows, doses, at, which))
        mean = ridge + self.arrays["tree_share"] * (grown - ridge)
        rate = float(
            np.exp(np.clip(basis @ self.arrays["rate_level"][r] + rows @ self.arrays["rate"], -12, 4))[0]
        )
        # Before the first month the disease has had no time to change.
        early = min(months / self.settings.months[0], 1.0)
        return np.asarray(mean[0]), rate * early

    def noise(self, samples: int, rng: np.random.Generator) -> Noise:
        """Draw the normal numbers of a patient, stratified over the samples at every month.

        Of n samples each target has one in every n-th part of its distribution, so that few of them already
        have its mean and its spread; targets and months stay correlated (Latin hypercube sampling with
        dependence, Packham & Schmidt 2008, SSRN 1269633).
        """
        log_months = np.log1p(GRID_MONTHS)
        distance = np.abs(log_months[:, None] - log_months[None])
        over_time = np.linalg.cholesky(
            np.exp(-distance / self.settings.month_length) + 1e-9 * np.eye(len(GRID_MONTHS))
        )
        white = rng.standard_normal((samples, 4, len(GRID_MONTHS)))
        targets = np.einsum("ij,sjm,nm->sin", self.arrays["mixing"], white, over_time)
        return Noise(self.settings.spread * stratified(targets), rng.standard_normal((samples, 256)))

    @staticmethod
    def median(samples: int = 1) -> Noise:
        """Return the numbers of the median course, which are zeros."""
        return Noise(np.zeros((samples, 4, len(GRID_MONTHS))), np.zeros((samples, 256)))

    def outcomes(self, x: FloatArray, regimen: Regimen, months: float, noise: Noise) -> Outcomes:
        """Return samples at one month; deterministic given the noise.

        Raises
        ------
        UnsupportedRegimen
            The model was not trained on this regimen.
        """
        z = noise.at(months)
        mean, rate = self.means(x, regimen, months)
        ratios = [_ratio(self._quantile(t, regimen, months, mean[t], ndtr(z[:, t]))) for t in range(3)]
        count = poisson.ppf(np.clip(ndtr(z[:, 3]), 1e-6, 1 - 1e-6), max(rate, 1e-9))
        return Outcomes(ratios[0], ratios[1], ratios[2], np.asarray(count, dtype=np.float64))

    def viable_interval(
        self, x: FloatArray, regimen: Regimen, months: float, share: float
    ) -> tuple[float, float]:
        """Return the central interval of viable tumour over that at baseline.

        It is that of infinitely many samples: their numbers at a month are normal, and viable tumour rises
        with its own number and depends on no other.

        Raises
        ------
        UnsupportedRegimen
            The model was not trained on this regimen.
        """
        limit = self.settings.spread * float(ndtri((1.0 + share) / 2.0))
        mean, _ = self.means(x, regimen, months)
        u = ndtr(np.array([-limit, limit]))
        low, high = _ratio(self._quantile(0, regimen, months, mean[0], u))
        return float(low), float(high)

    def _quantile(
        self, target: int, regimen: Regimen, months: float, mean: float, u: FloatArray
    ) -> FloatArray:
        """Interpolate the quantiles of the two months around the one that is asked."""
        knots = np.array(self.settings.months)
        at = float(np.clip(months, knots[0], knots[-1]))
        high = int(np.clip(np.searchsorted(knots, at), 1, len(knots) - 1)) if len(knots) > 1 else 0
        low = max(high - 1, 0)
        weight = 0.0 if high == low else (at - knots[low]) / (knots[high] - knots[low])
        parts = []
        for knot, share in ((low, 1.0 - weight), (high, weight)):
            if share > 1e-9:
                values, weights = self.analogues(target, self._index(regimen), knot, mean)
                parts.append(share * weighted_quantiles(values, weights, u))
        return np.asarray(np.sum(parts, axis=0))

    def analogues(self, target: int, regimen: int, knot: int, mean: float) -> tuple[FloatArray, FloatArray]:
        """Return outcomes of the training rows nearest to a mean, moved to it, and their weights."""
        a = self.arrays
        same_month = a["row_month"] == knot
        chosen = same_month & (a["row_regimen"] == regimen)
        if chosen.sum() < _FEW:
            chosen = same_month
        means, values = a["row_mean"][chosen, target], a["row_value"][chosen, target]
        return nearest(means, values, mean, self.settings.neighbours)


def stratified(z: FloatArray) -> FloatArray:
    """Move normal numbers so that each of n strata has one of the n samples, (samples, ...).

    The order of the samples stays. The number of rank k goes to the k-th stratum, and in it to where it
    was among numbers of that rank, whose probabilities are distributed as Beta(k, n + 1 - k): so one
    sample stays what it was, and each of several is normal.
    """
    rank = z.argsort(axis=0, kind="stable").argsort(axis=0)
    place = betainc(rank + 1, len(z) - rank, ndtr(z))
    # What rounds to 0 or 1 far out stays finite.
    return np.asarray(ndtri(np.clip((rank + place) / len(z), 1e-15, 1 - 1e-15)))


def _ratio(logs: FloatArray) -> FloatArray:
    """Return ratios of volumes from their logarithms; what is next to nothing is nothing."""
    ratios = np.maximum(np.exp(logs) - FLOOR, 0.0)
    return np.where(ratios < _NOTHING, 0.0, ratios)


def nearest(means: FloatArray, values: FloatArray, mean: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Return the values whose means are nearest, moved by the difference of means, and weights."""
    distance = np.abs(means - mean)
    k = min(count, len(means))
    order = np.argsort(distance, kind="stable")[:k]
    reach = max(float(distance[order[-1]]), 1e-6)
    weights = 1.0 - 0.75 * (distance[order] / reach) ** 2
    at_floor = values[order] < np.log(FLOOR) + 1e-3
    moved = np.where(at_floor, values[order], values[order] + (mean - means[order]))
    # What no patient came to is not foretold: where the mean is far from all patients it is a line
    # drawn too far.
    return np.clip(moved, np.log(FLOOR), values.max()), weights


def weighted_quantiles(values: FloatArray, weights: FloatArray, u: FloatArray) -> FloatArray:
    """Return quantiles of a weighted sample, linear between its points."""
    order = np.argsort(values, kind="stable")
    w = weights[order]
    place = (np.cumsum(w) - 0.5 * w) / w.sum()
    return np.asarray(np.interp(u, place, values[order]))
