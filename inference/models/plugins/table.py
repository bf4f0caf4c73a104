"""From settings to site segmenters, and what is said of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inference.model_settings import (
    AnySiteSegmenter,
    ModelSettings,
    MonaiBundleSettings,
    NnunetSettings,
    SiteSegmenter,
    TotalSegmentatorSettings,
)
from inference.models.plugins.availability import Available
from inference.models.plugins.monai_bundle import MonaiBundle
from inference.models.plugins.nnunet import Nnunet
from inference.models.plugins.program import ProgramSegmenter
from inference.models.plugins.totalsegmentator import LABELS, TotalSegmentator


@dataclass(frozen=True, slots=True)
class PluginState:
    """One site segmenter as people see it; `detail` says what was found, or what is missing."""

    name: str
    program: str
    available: bool
    detail: str


def _monai(settings: MonaiBundleSettings) -> ProgramSegmenter:
    return _labelled(MonaiBundle(settings), settings)


def _nnunet(settings: NnunetSettings) -> ProgramSegmenter:
    return _labelled(Nnunet(settings), settings)


def _labelled(runner: MonaiBundle | Nnunet, settings: SiteSegmenter) -> ProgramSegmenter:
    return ProgramSegmenter(
        runner, settings, settings.name, settings.modalities, settings.labels, settings.trained_on
    )


def _totalsegmentator(settings: TotalSegmentatorSettings) -> ProgramSegmenter:
    trained_on = "real: TotalSegmentator's CT and MR studies"
    runner = TotalSegmentator(settings)
    return ProgramSegmenter(runner, settings, settings.name, settings.modalities, LABELS, trained_on)


PROGRAMS: Mapping[str, Callable[..., ProgramSegmenter]] = {
    "monai": _monai,
    "nnunet": _nnunet,
    "totalsegmentator": _totalsegmentator,
}
"""What makes a segmenter of settings, by ``program``."""


def site_segmenter(settings: AnySiteSegmenter) -> ProgramSegmenter:
    """Return one site segmenter."""
    return PROGRAMS[settings.program](settings)


def site_segmenters(settings: ModelSettings) -> tuple[ProgramSegmenter, ...]:
    """Return the site's segmenters in the order of the configuration, available or not."""
    return tuple(site_segmenter(s) for s in settings.segmenters)


def plugin_states(settings: ModelSettings) -> tuple[PluginState, ...]:
    """Return whether each configured site segmenter is available, and if not, why."""
    states = []
    for one in settings.segmenters:
        found = site_segmenter(one).available()
        ready = isinstance(found, Available)
        detail = found.detail if isinstance(found, Available) else found.reason
        states.append(PluginState(one.name, one.program, ready, detail))
    return tuple(states)
