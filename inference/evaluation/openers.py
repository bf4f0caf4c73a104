"""Which forecasters a bundle holds, and which segmenter, by the format in its metadata."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from inference.bundle_store import BundleDescription, BundleKind, describe
from inference.errors import ModelError
from inference.evaluation.adapters import GeneratorForecaster
from inference.evaluation.forecasts import Forecaster
from inference.evaluation.segmentation_cases import SegmentVolume
from inference.models.mechanistic import MechanisticGenerator
from inference.settings import Regimen
from inference.training.cohort import CohortInfo

Open = Callable[[BundleDescription, CohortInfo, Mapping[str, Regimen]], Sequence[Forecaster]]
"""Returns the forecasters of a bundle: the model first, then what it carries to be compared with."""


def _mechanistic(
    bundle: BundleDescription, info: CohortInfo, regimens: Mapping[str, Regimen]
) -> Sequence[Forecaster]:
    generator = MechanisticGenerator.from_bundle(bundle.folder)
    return (GeneratorForecaster("mechanistic", generator, regimens, info),)


OPENERS: Mapping[str, Open | str] = {
    "mechanistic": _mechanistic,
    "flow": "inference.evaluation.learned:learned_forecasters",
}
"""By format; a text is ``module:function`` and is imported when it is asked for."""

SEGMENTERS: Mapping[str, str] = {"unet": "inference.evaluation.unet_volumes:unet_volume"}
"""By format: ``module:function`` of a function from a `BundleDescription` to a `SegmentVolume`."""


def open_forecasters(
    bundle: str | Path, info: CohortInfo, regimens: Mapping[str, Regimen]
) -> tuple[BundleDescription, tuple[Forecaster, ...]]:
    """Open a generator's bundle for evaluation.

    Raises
    ------
    ModelError
        The bundle is absent, damaged, no generator, or of a format that cannot be evaluated.
    """
    found = describe(bundle)
    if found.kind is not BundleKind.GENERATOR:
        raise ModelError(f"the model bundle {found.info.name} is no generator")
    opener = OPENERS.get(found.format)
    if opener is None:
        raise ModelError(f"bundles of the format {found.format} cannot be evaluated as a generator")
    if isinstance(opener, str):
        opener = cast(Open, _imported(opener))
    return found, tuple(opener(found, info, regimens))


def open_segmenter(bundle: str | Path) -> tuple[str, SegmentVolume]:
    """Open a segmenter's bundle; returns its name and version, and the function.

    Raises
    ------
    ModelError
        As `open_forecasters`, for a segmenter.
    """
    found = describe(bundle)
    target = SEGMENTERS.get(found.format)
    if found.kind is not BundleKind.SEGMENTER or target is None:
        raise ModelError(f"the model bundle {found.info.name} is no segmenter that can be evaluated")
    opened = cast("Callable[[BundleDescription], SegmentVolume]", _imported(target))
    return f"{found.info.name} {found.info.version}", opened(found)


def _imported(target: str) -> object:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
