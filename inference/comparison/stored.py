"""A learned comparison as a bundle: a folder of verified files that hold no patient's data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from inference.bundle_store import bundle_folder, load_metadata, seal
from inference.comparison.confidence import ConfidenceMap
from inference.comparison.effects import Draws, Scaling
from inference.comparison.learned import LearnedComparison, RegimenData
from inference.comparison.overlap import Neighbourhood, Propensity
from inference.comparison.results import GlobalTests
from inference.comparison.rule import ComparisonRule
from inference.errors import ModelError
from inference.results import BundleInfo

ARRAYS, FACTS = "comparison.safetensors", "comparison.json"
KIND, FORMAT, VERSION = "comparison", "regimens", "1.0.0"


@dataclass(frozen=True, slots=True)
class ComparisonModel:
    """A learned comparison, and the bundle that it came from."""

    info: BundleInfo
    learned: LearnedComparison

    @property
    def demonstration(self) -> bool:
        """Whether it was learned from patients who are not real."""
        return not self.info.trained_on.startswith("real")


def save_comparison(learned: LearnedComparison, folder: Path, name: str, trained_on: str) -> None:
    """Write a bundle; the folder is made if absent.

    Parameters
    ----------
    trained_on : str
        As in every bundle: ``simulated`` or ``real``, and of whom.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "least": learned.scaling.least,
        "mean": learned.scaling.mean,
        "sd": learned.scaling.sd,
        "squared": learned.scaling.squared.astype(np.uint8),
        "squares_sd": learned.scaling.squares_sd,
        "coefficients": learned.draws.coefficients,
        "scale": learned.draws.scale,
        "shape": learned.draws.shape,
        "propensity": learned.propensity.coefficients,
        "precision": learned.neighbourhood.precision,
    }
    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items()}, folder / ARRAYS)
    facts = {
        "names": learned.names,
        "regimens": [asdict(data) for data in learned.regimens],
        "excluded": [asdict(data) for data in learned.excluded],
        "rule": learned.rule.model_dump(),
        "confidence": asdict(learned.confidence),
        "tests": asdict(learned.tests),
        "distance_limit": learned.neighbourhood.limit,
    }
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    told = {"name": name, "version": VERSION, "trained_on": trained_on, "kind": KIND, "format": FORMAT}
    seal(folder, told)


def load_comparison(name_or_path: str | Path) -> ComparisonModel:
    """Read a bundle after its files were verified.

    Raises
    ------
    ModelError
        The bundle is absent, damaged, or of another kind.
    """
    info, metadata = load_metadata(name_or_path)
    if metadata.get("format") != FORMAT:
        raise ModelError(f"the model bundle {info.name} is no comparison of regimens")
    folder = bundle_folder(name_or_path)
    try:
        arrays = load_file(folder / ARRAYS)
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        learned = LearnedComparison(
            rule=ComparisonRule.model_validate(facts["rule"]),
            confidence=ConfidenceMap(*(tuple(facts["confidence"][k]) for k in ("raw", "calibrated"))),
            names=tuple(facts["names"]),
            regimens=tuple(RegimenData(**data) for data in facts["regimens"]),
            excluded=tuple(RegimenData(**data) for data in facts["excluded"]),
            scaling=Scaling(
                least=arrays["least"],
                mean=arrays["mean"],
                sd=arrays["sd"],
                squared=arrays["squared"].astype(np.bool_),
                squares_sd=arrays["squares_sd"],
            ),
            draws=Draws(arrays["coefficients"], arrays["scale"], arrays["shape"]),
            propensity=Propensity(arrays["propensity"]),
            neighbourhood=Neighbourhood(arrays["precision"], float(facts["distance_limit"])),
            tests=GlobalTests(**facts["tests"]),
        )
    except (OSError, KeyError, TypeError, ValueError, ValidationError, SafetensorError) as error:
        raise ModelError(f"the files of the model bundle {info.name} cannot be read") from error
    return ComparisonModel(info, learned)
