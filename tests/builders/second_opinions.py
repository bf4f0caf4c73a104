"""Small bundles of second opinions, written by hand: quick, and of the form that a training writes."""

from __future__ import annotations

from pathlib import Path

import torch

from inference.bundle_store import BundleKind, seal
from inference.clinical.nomogram import Nomogram, NomogramFile, Predictor
from inference.models.lasso_cox import LassoCox, LassoCoxFile
from inference.models.second_opinions import nomogram, radiomics_cox, resnet50
from inference.models.second_opinions.dlop import (
    CTR_RISK,
    Comparators,
    DlopFile,
    DlopNetwork,
    DlopNetworks,
    FactorScale,
    write_dlop,
)
from inference.models.second_opinions.dlop_factors import RESPONSE
from inference.models.second_opinions.residual import Depth, ResidualSettings

_NO_YES = {"no": 0.0, "yes": 1.0}
TIMES, HAZARD = (6.0, 12.0, 26.0), (0.1, 0.3, 0.6)
TINY = ResidualSettings(depth=Depth.TINY, width=4, slices=4)


def write_radiomics_cox(folder: Path, *names: str, modality: str = "CT") -> Path:
    """Write a Cox model of radiomics features, each of mean 0, deviation 100 and coefficient 0.2."""
    _lasso(*names).write(folder)
    told = {"endpoint": "os", "modality": modality, "format": radiomics_cox.FORMAT}
    return _sealed(folder, "radiomics_cox", told)


def write_nomogram(folder: Path, *image_features: str, modality: str = "CT") -> Path:
    """Write a nomogram of AFP, capsule and radiomics features."""
    lines = [
        Predictor(name="afp_400", label="AFP 400 ng/ml or more", beta=0.8, low=0, high=1, levels=_NO_YES),
        Predictor(
            name="over_10_cm", label="Largest tumour above 10 cm", beta=0.4, low=0, high=1, levels=_NO_YES
        ),
        *(Predictor(name=name, label=name, beta=0.01, low=0, high=50) for name in image_features),
    ]
    file = NomogramFile(endpoint="pfs", predictors=tuple(lines), times=TIMES, hazard=HAZARD)
    Nomogram(file).write(folder)
    told = {"endpoint": "pfs", "modality": modality, "format": nomogram.FORMAT}
    return _sealed(folder, "nomogram", told)


def write_resnet50_mlp(folder: Path) -> Path:
    """Write ResNet50 + MLP with a network that learned nothing and a nomogram of two lines."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = resnet50.PerceptronSettings(residual=TINY, hidden=8, image_features=2)
        network = resnet50.ResponseNetwork(settings).eval()
    feature = resnet50.image_feature_name(1)
    afp = Predictor(name="afp_400", label="AFP 400 ng/ml or more", beta=0.8, low=0, high=1, levels=_NO_YES)
    image = Predictor(name=feature, label="Image feature 1", beta=0.3, low=0, high=4)
    whole = Nomogram(NomogramFile(endpoint="pfs", predictors=(afp, image), times=TIMES, hazard=HAZARD))
    typical = {resnet50.image_feature_name(n): 0.5 for n in (1, 2)}
    file = resnet50.Resnet50File(network=settings, typical=typical)
    resnet50.write_resnet50(folder, file, network, (whole, None, None))
    return _sealed(folder, "resnet50_mlp", {"format": resnet50.FORMAT})


def write_dlop_combin(folder: Path) -> Path:
    """Write DLOP_Combin of two factors with networks that learned nothing."""
    scales = tuple(FactorScale(name=n, mean=m, sd=s) for n, m, s in (("age", 60, 10), (RESPONSE, 0.5, 0.5)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = DlopNetworks(DlopNetwork(TINY, len(scales)).eval(), DlopNetwork(TINY, 0).eval())
    file = DlopFile(residual=TINY, landmark_months=3.0, regimens=("tace",), factors=scales, risk_cut=0.4)
    write_dlop(folder, file, networks, Comparators(_lasso(CTR_RISK, "age"), None, _lasso("age")))
    return _sealed(folder, "dlop_combin", {"format": "dlop_combin"})


def _lasso(*names: str) -> LassoCox:
    count = len(names)
    return LassoCox(
        LassoCoxFile(
            names=names,
            mean=(0.0,) * count,
            sd=(100.0,) * count,
            beta=(0.2,) * count,
            times=TIMES,
            hazard=HAZARD,
            penalty=0.1,
        )
    )


def _sealed(folder: Path, name: str, told: dict[str, str]) -> Path:
    kind = BundleKind.SECOND_OPINION.value
    metadata = {"name": name, "version": "1", "kind": kind, "trained_on": "simulated: by hand, n=40", **told}
    seal(folder, metadata)
    return folder
