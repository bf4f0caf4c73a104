"""Small bundles of second opinions, written by hand: quick, and of the form that a training writes."""

from __future__ import annotations

from pathlib import Path

from inference.bundle_store import BundleKind, seal
from inference.clinical.nomogram import Nomogram, NomogramFile, Predictor
from inference.models.lasso_cox import LassoCox, LassoCoxFile
from inference.models.second_opinions import nomogram, radiomics_cox

_NO_YES = {"no": 0.0, "yes": 1.0}
TIMES, HAZARD = (6.0, 12.0, 26.0), (0.1, 0.3, 0.6)


def write_radiomics_cox(folder: Path, *names: str, modality: str = "CT") -> Path:
    """Write a Cox model of radiomics features, each of mean 0, deviation 100 and coefficient 0.2."""
    count = len(names)
    LassoCox(
        LassoCoxFile(
            names=names,
            mean=(0.0,) * count,
            sd=(100.0,) * count,
            beta=(0.2,) * count,
            times=TIMES,
            hazard=HAZARD,
            penalty=0.1,
        )
    ).write(folder)
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


def _sealed(folder: Path, name: str, told: dict[str, str]) -> Path:
    kind = BundleKind.SECOND_OPINION.value
    metadata = {"name": name, "version": "1", "kind": kind, "trained_on": "simulated: by hand, n=40", **told}
    seal(folder, metadata)
    return folder
