"""ResNet50 + MLP: objective response from tumour slices and five clinical values, and a Cox nomogram of PFS.

A residual network gives features of each slice that holds tumour; they are averaged over a patient's
slices, a perceptron makes few image features of them, and a last layer joins these with five clinical
values: the probability of CR or PR by mRECIST. A nomogram of progression-free survival takes the clinical
values and at most six of the image features (Yin et al. 2025, BMC Gastroenterol,
10.1186/s12876-024-03555-7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inference.bundle_store import bundle_folder, load_metadata, read_file, write_file
from inference.clinical.nomogram import Nomogram, NomogramFile
from inference.clinical.nomogram_predictors import PREDICTORS
from inference.errors import ModelError
from inference.models.second_opinions.residual import ResidualSettings, SliceNetwork
from inference.models.second_opinions.slice_inputs import as_tensor
from inference.results import BundleInfo, FloatArray, Labels
from inference.settings import Frozen

FORMAT = "resnet50_mlp"
_SETTINGS, _WEIGHTS = "resnet50.json", "resnet50.safetensors"
_CLINICAL_NOMOGRAM, _IMAGE_NOMOGRAM = "nomogram_clinical.json", "nomogram_image.json"
_UNKNOWN = 0.5
"""Stands for a missing answer; that it is missing is told beside it."""


class PerceptronSettings(Frozen):
    """Sizes of what follows the residual network."""

    residual: ResidualSettings
    hidden: int = Field(128, gt=0)
    image_features: int = Field(16, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)


class Resnet50File(Frozen):
    """``resnet50.json`` of a bundle."""

    network: PerceptronSettings
    regimens: tuple[str, ...] = Field((), description="regimens that it was made for; empty for all")
    typical: dict[str, float] = Field(
        description="medians of the training patients, for evaluations where a value is missing"
    )


class ResponseNetwork(nn.Module):
    """Response from slices and clinical values."""

    def __init__(self, settings: PerceptronSettings) -> None:
        super().__init__()
        self.settings = settings
        self.slices = SliceNetwork(settings.residual)
        self.reduce = nn.Sequential(
            nn.Linear(settings.residual.features, settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, settings.image_features),
            nn.ReLU(),
        )
        self.head = nn.Linear(settings.image_features + 2 * len(PREDICTORS), 1)

    def image_features(self, slices: Tensor) -> Tensor:
        """Return the image features of slices, (n, image_features)."""
        found: Tensor = self.reduce(self.slices(slices))
        return found

    def joined(self, image_features: Tensor, clinical: Tensor) -> Tensor:
        """Return log odds of response, (n,)."""
        found: Tensor = self.head(torch.cat([image_features, clinical], dim=1))
        return found[:, 0]

    def forward(self, slices: Tensor, clinical: Tensor) -> Tensor:
        """Return log odds of response, (n,), of slices (n, 3, y, x) and clinical inputs (n, 10)."""
        return self.joined(self.image_features(slices), clinical)


def clinical_inputs(predictors: Mapping[str, float]) -> FloatArray:
    """Return the five answers, .5 where one is missing, and whether each is known, (10,)."""
    answers = np.array([predictors[name] for name in PREDICTORS], dtype=np.float64)
    known = np.isfinite(answers)
    return np.concatenate([np.where(known, answers, _UNKNOWN), known.astype(np.float64)])


def image_feature_name(number: int) -> str:
    """Return the name of an image feature, counted from 1."""
    return f"image_feature_{number}"


@dataclass(frozen=True, slots=True)
class PatientImageFeatures:
    """What the network makes of one patient.

    Attributes
    ----------
    response : float
        Probability of CR or PR.
    features : mapping of name to value
        Averages over the slices.
    """

    response: float
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Resnet50Model:
    """The network and three nomograms: both kinds of predictors, clinical ones, image features.

    Attributes
    ----------
    clinical, image : Nomogram or None
        Comparators; None where no predictor of that kind was usable.
    """

    info: BundleInfo
    file: Resnet50File
    network: ResponseNetwork
    nomogram: Nomogram
    clinical: Nomogram | None
    image: Nomogram | None

    @classmethod
    def from_bundle(cls, name_or_path: str | Path) -> Resnet50Model:
        """Read a verified bundle.

        Raises
        ------
        ModelError
            The bundle is damaged, or not of this system.
        """
        info, _metadata = load_metadata(name_or_path)
        folder = bundle_folder(name_or_path)
        file = read_file(folder, _SETTINGS, Resnet50File)
        with torch.random.fork_rng(devices=[]):
            network = ResponseNetwork(file.network)
        try:
            network.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"the network of the model bundle {folder.name} cannot be read") from error
        clinical, image = (_optional(folder, name) for name in (_CLINICAL_NOMOGRAM, _IMAGE_NOMOGRAM))
        return cls(info, file, network.eval().requires_grad_(False), Nomogram.read(folder), clinical, image)

    def look(self, slices: Labels | None, predictors: Mapping[str, float]) -> PatientImageFeatures:
        """Return what the network makes of a patient; None for slices where no tumour is outlined.

        Parameters
        ----------
        slices : array of uint8, (n, 3, y, x), or None
        predictors : mapping
            Answers by the names of `PREDICTORS`, NaN where missing.
        """
        inputs = torch.from_numpy(clinical_inputs(predictors)).float()[None]
        return look(self.network, slices, inputs, self.file.typical)


def look(
    network: ResponseNetwork, slices: Labels | None, clinical: Tensor, typical: Mapping[str, float]
) -> PatientImageFeatures:
    """Return what a network in evaluation mode makes of a patient, of clinical inputs (1, 10).

    Without slices the features are `typical`.
    """
    names = [image_feature_name(n + 1) for n in range(network.settings.image_features)]
    with torch.no_grad():
        if slices is None:
            features = torch.tensor([typical[name] for name in names])[None]
        else:
            features = network.image_features(as_tensor(slices)).mean(dim=0, keepdim=True)
        response = float(torch.sigmoid(network.joined(features, clinical)))
    return PatientImageFeatures(response, dict(zip(names, features[0].double().tolist(), strict=True)))


def write_resnet50(
    folder: Path, file: Resnet50File, network: ResponseNetwork, nomograms: Sequence[Nomogram | None]
) -> None:
    """Write the files of a bundle, metadata excepted; nomograms are whole, clinical, image."""
    whole, clinical, image = nomograms
    folder.mkdir(parents=True, exist_ok=True)
    if whole is None:
        raise ModelError("no predictor of the nomogram is usable")
    whole.write(folder)
    write_file(folder, _SETTINGS, file)
    for name, found in ((_CLINICAL_NOMOGRAM, clinical), (_IMAGE_NOMOGRAM, image)):
        (folder / name).unlink(missing_ok=True)
        if found is not None:
            write_file(folder, name, found.file)
    save_file(
        {name: value.detach().contiguous() for name, value in network.state_dict().items()},
        folder / _WEIGHTS,
    )


def _optional(folder: Path, name: str) -> Nomogram | None:
    return Nomogram(read_file(folder, name, NomogramFile)) if (folder / name).is_file() else None
