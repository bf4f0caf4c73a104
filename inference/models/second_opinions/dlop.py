"""DLOP_Combin: survival by year from tumour slices, clinical factors and early response.

ResNet101 gives 2048 features of slices, a perceptron with 16, 32 and 64 hidden units gives 64 of the
clinical factors, and a last layer gives, for each year up to the fourth, the probability to live through it;
the product of the first three is three-year survival (Sun et al., J Hepatocell Carcinoma). The study counts
five outputs for four intervals; here each interval has one.

The forecast begins at a landmark: response to treatment is an input, and is not known before. The first
interval therefore runs from the landmark to the end of the first year, and all probabilities are those of
patients who are alive at the landmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inference.bundle_store import bundle_folder, load_metadata, read_file, write_file
from inference.errors import ModelError
from inference.models.lasso_cox import CLIP_SD, LassoCox, LassoCoxFile
from inference.models.second_opinions.dlop_factors import RESPONSE
from inference.models.second_opinions.residual import ResidualSettings, SliceNetwork
from inference.models.second_opinions.slice_inputs import as_tensor
from inference.models.survival.hazards import HazardGrid, survival_at
from inference.results import BundleInfo, FloatArray, Labels
from inference.settings import Frozen

FORMAT = "dlop_combin"
YEAR_ENDS = (12.0, 24.0, 36.0, 48.0)
"""Months after the start of treatment at which the intervals end."""
OUTPUT_MONTHS = 36.0
HIDDEN = (16, 32, 64)
CTR_RISK = "ctr_log_risk"
"""Name of the image network's output where a Cox model takes it."""
_SETTINGS, _COMBIN, _CTR = "dlop.json", "dlop_combin.safetensors", "dlop_ctr.safetensors"
_DLOP_COX, _CLINICAL_COX = "dlop_cox.json", "clinical_cox.json"


class FactorScale(Frozen):
    """How a clinical factor enters the perceptron."""

    name: str
    mean: float
    sd: float = Field(gt=0)


class DlopFile(Frozen):
    """``dlop.json`` of a bundle."""

    residual: ResidualSettings
    landmark_months: float = Field(gt=0, lt=YEAR_ENDS[0])
    regimens: tuple[str, ...] = Field((), description="regimens that it was made for; empty for all")
    factors: tuple[FactorScale, ...] = Field(min_length=1)
    risk_cut: float | None = Field(
        None, description="three-year survival below which a patient is at high risk (Youden); None: no cut"
    )

    @property
    def grid(self) -> HazardGrid:
        """Intervals in months after the landmark."""
        return HazardGrid(np.array([0.0, *(end - self.landmark_months for end in YEAR_ENDS)]))


class DlopNetwork(nn.Module):
    """Log odds to live through each interval; without clinical factors it is DLOP_CTR.

    Parameters
    ----------
    factors : int
        Number of clinical factors; 0 for a network of images alone.
    """

    def __init__(self, residual: ResidualSettings, factors: int) -> None:
        super().__init__()
        self.slices = SliceNetwork(residual)
        self.factors = factors
        self.clinical = _perceptron(2 * factors) if factors else None
        self.head = nn.Linear(residual.features + (HIDDEN[-1] if factors else 0), len(YEAR_ENDS))

    def joined(self, features: Tensor, clinical: Tensor) -> Tensor:
        """Return log odds, (n, 4), of slice features (n, features) and inputs of factors (n, 2 factors)."""
        parts = [features] if self.clinical is None else [features, self.clinical(clinical)]
        found: Tensor = self.head(torch.cat(parts, dim=1))
        return found

    def forward(self, slices: Tensor, clinical: Tensor) -> Tensor:
        """Return log odds, (n, 4), of slices (n, 3, y, x)."""
        return self.joined(self.slices(slices), clinical)


def _perceptron(inputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((inputs, *HIDDEN), HIDDEN, strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers)


def factor_inputs(scales: tuple[FactorScale, ...], factors: Mapping[str, float]) -> FloatArray:
    """Return factors on one scale, 0 where missing, and whether each is known, (2 factors,)."""
    scaled = np.array([(factors[s.name] - s.mean) / s.sd for s in scales])
    known = np.isfinite(scaled)
    return np.concatenate(
        [np.clip(np.where(known, scaled, 0.0), -CLIP_SD, CLIP_SD), known.astype(np.float64)]
    )


def log_rates_of(log_odds: Tensor, widths: FloatArray) -> Tensor:
    """Return log hazards, constant within intervals, from the log odds to live through each, (n, 4)."""
    # -log(sigmoid) is the cumulative hazard of an interval.
    hazard = nn.functional.softplus(-log_odds)
    return torch.log(hazard.clamp_min(1e-12)) - torch.log(torch.from_numpy(widths).to(hazard))


@dataclass(frozen=True, slots=True)
class DlopNetworks:
    """The two networks of the system."""

    combin: DlopNetwork
    ctr: DlopNetwork


@dataclass(frozen=True, slots=True)
class Comparators:
    """The Cox models beside the networks; None where no feature was usable.

    Attributes
    ----------
    cox : DLOP_Cox, the image network's risk and clinical factors
    radiomics : lasso of radiomics
    clinical : clinical factors
    """

    cox: LassoCox
    radiomics: LassoCox | None
    clinical: LassoCox


@dataclass(frozen=True, slots=True)
class DlopModel:
    """DLOP_Combin and its four comparators."""

    info: BundleInfo
    file: DlopFile
    networks: DlopNetworks
    comparators: Comparators

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> DlopModel:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not of this system.
        """
        info, _metadata = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        file = read_file(folder, _SETTINGS, DlopFile)
        networks = DlopNetworks(
            _read(folder / _COMBIN, file.residual, len(file.factors)), _read(folder / _CTR, file.residual, 0)
        )
        radiomics = LassoCox.read(folder) if (folder / "lasso_cox.json").is_file() else None
        cox, clinical = (
            LassoCox(read_file(folder, name, LassoCoxFile)) for name in (_DLOP_COX, _CLINICAL_COX)
        )
        return cls(info, file, networks, Comparators(cox, radiomics, clinical))

    def log_rates(self, slices: Labels | None, factors: Mapping[str, float]) -> FloatArray:
        """Return log hazards of DLOP_Combin by interval, (4,); see `network_log_rates`."""
        inputs = factor_inputs(self.file.factors, factors)
        return network_log_rates(self.networks.combin, slices, inputs, self.file.grid)

    def survival(self, log_rates: FloatArray, months: FloatArray) -> FloatArray:
        """Return survival of patients alive at the landmark at months after the start of treatment, (m,)."""
        after = np.maximum(np.asarray(months) - self.file.landmark_months, 0.0)
        return survival_at(self.file.grid, log_rates, after)


def network_log_rates(
    network: DlopNetwork, slices: Labels | None, inputs: FloatArray, grid: HazardGrid
) -> FloatArray:
    """Return log hazards by interval, (4,), of one patient, features averaged over the slices.

    Without slices the features are 0: only the clinical factors speak.
    """
    with torch.no_grad():
        if slices is None:
            features = torch.zeros((1, network.slices.settings.features))
        else:
            features = network.slices(as_tensor(slices)).mean(dim=0, keepdim=True)
        log_odds = network.joined(features, torch.from_numpy(inputs).float()[None])
        return np.asarray(log_rates_of(log_odds, grid.widths)[0].double().numpy())


def log_risk(log_rates: FloatArray, grid: HazardGrid, landmark_months: float) -> float:
    """Return the logarithm of the cumulative hazard from the landmark to three years."""
    hazard = -np.log(survival_at(grid, log_rates, np.array([OUTPUT_MONTHS - landmark_months]))[0])
    return float(np.log(max(hazard, 1e-12)))


def with_response(factors: Mapping[str, float], response: float) -> dict[str, float]:
    """Return the factors of a patient as if the response were this."""
    return {**factors, RESPONSE: response}


def write_dlop(folder: Path, file: DlopFile, networks: DlopNetworks, comparators: Comparators) -> None:
    """Write the files of a bundle, metadata excepted."""
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder, _SETTINGS, file)
    write_file(folder, _DLOP_COX, comparators.cox.file)
    write_file(folder, _CLINICAL_COX, comparators.clinical.file)
    (folder / "lasso_cox.json").unlink(missing_ok=True)
    if comparators.radiomics is not None:
        comparators.radiomics.write(folder)
    for name, network in ((_COMBIN, networks.combin), (_CTR, networks.ctr)):
        weights = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
        save_file(weights, folder / name)


def _read(path: Path, residual: ResidualSettings, factors: int) -> DlopNetwork:
    with torch.random.fork_rng(devices=[]):
        network = DlopNetwork(residual, factors)
    try:
        network.load_state_dict(load_file(path))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path.name} of a model bundle cannot be read") from error
    return network.eval().requires_grad_(False)
