"""Crops of a simulated patient: the liver-centred grid on which disease and images are simulated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inference.case import Phase
from inference.randomness import RandomStreams
from inference.results import Labels, Voxels
from inference.simulation.acquisition import Protocol, Scanner, draw_protocols
from inference.simulation.anatomy import LIVER_CENTRE_MM, Anatomy, build_anatomy
from inference.simulation.disease import Appearance, TumourState
from inference.simulation.habitus import draw_habitus
from inference.simulation.scan import Background, add_noise, background, scan_over
from inference.training.cohort import CROP, SPACING_MM, HalfPrecision

_STEP = (SPACING_MM, SPACING_MM, SPACING_MM)


@dataclass(frozen=True, slots=True)
class Acquired:
    """The liver of one patient on the crop's grid, and how its series are acquired.

    Attributes
    ----------
    protocols : in the order of the image channels
    scales : what stored values are multiplied with; in MR what brings the median of the liver's
        parenchyma to 1000
    backgrounds : each series without tumours
    """

    anatomy: Anatomy
    protocols: Mapping[Phase, Protocol]
    scales: Mapping[Phase, float]
    backgrounds: Mapping[Phase, Background]
    streams: RandomStreams

    @property
    def liver(self) -> Labels:
        """Share of each voxel that is liver, 0 to 255."""
        return np.asarray(np.rint(np.clip(self.anatomy.liver, 0, 1) * 255), dtype=np.uint8)

    @property
    def liver_ml(self) -> float:
        """Volume of the liver with its tumours."""
        return float(self.anatomy.liver.sum()) * SPACING_MM**3 / 1000.0

    @property
    def traits(self) -> Mapping[str, float]:
        """What else is known of where the disease lies; written with the latent traits."""
        return {}

    def baseline(
        self, state: TumourState, appearance: Appearance
    ) -> tuple[HalfPrecision, HalfPrecision | None]:
        """Return the baseline as acquired and, where there is one, without noise; (phase, z, y, x)."""
        noisy, clean = [], []
        for protocol in self.protocols.values():
            image = self._clean(state, appearance, protocol)
            rng = self.streams.derive("noise", protocol.phase)
            clean.append(self._scaled(protocol, image))
            noisy.append(self._scaled(protocol, add_noise(image, self.anatomy, protocol, rng)))
        return _stored(noisy), _stored(clean)

    def follow_up(self, state: TumourState, appearance: Appearance) -> HalfPrecision:
        """Return the images of a state without noise, (phase, z, y, x)."""
        images = [self._scaled(p, self._clean(state, appearance, p)) for p in self.protocols.values()]
        return _stored(images)

    def _clean(self, state: TumourState, appearance: Appearance, protocol: Protocol) -> Voxels:
        behind = self.backgrounds[protocol.phase]
        unused = self.streams.derive("no noise")
        return scan_over(behind, self.anatomy, state, appearance, protocol.clean(), unused)

    def _scaled(self, protocol: Protocol, image: Voxels) -> Voxels:
        return np.asarray(image * np.float32(self.scales[protocol.phase]), dtype=np.float32)

    def tissue(self, state: TumourState, visible: float) -> tuple[Labels, Labels]:
        """Return shares of viable, dead and lipiodol, (3, z, y, x) 0 to 255, and lesion numbers."""
        where = state.box.slices
        total = np.maximum(state.viable + state.necrosis, 1e-6)
        # Tumour cannot hold more of a voxel than the liver does.
        fit = np.minimum(1.0, self.anatomy.liver[where] / total)
        covered = state.lipiodol > visible
        parts = (state.viable, state.necrosis * ~covered, state.necrosis * covered)
        shares = np.zeros((3, *self.anatomy.liver.shape), np.uint8)
        for channel, part in enumerate(parts):
            shares[channel][where] = np.rint(np.clip(part * fit, 0, 1) * 255)
        lesion = np.zeros(self.anatomy.liver.shape, np.uint8)
        lesion[where] = state.lesion
        return shares, lesion


def acquire(
    appearance: Appearance, phases: Sequence[Phase], shifted: bool, streams: RandomStreams
) -> Acquired:
    """Build a patient's liver and decide how the series are acquired."""
    habitus = draw_habitus(streams.derive("habitus"), appearance)
    anatomy = build_anatomy(CROP, _STEP, streams.derive("anatomy"), habitus, LIVER_CENTRE_MM)
    scanner = Scanner.SHIFTED if shifted else Scanner.STANDARD
    protocols = draw_protocols(phases, scanner, streams.derive("protocol"))
    behind = {p: background(anatomy, appearance, protocol) for p, protocol in protocols.items()}
    scales = {p: _scale(behind[p], anatomy, appearance, protocol) for p, protocol in protocols.items()}
    return Acquired(anatomy, protocols, scales, behind, streams)


def _scale(behind: Background, anatomy: Anatomy, appearance: Appearance, protocol: Protocol) -> float:
    if protocol.modality == "CT":
        return 1.0
    healthy = scan_over(behind, anatomy, None, appearance, protocol.clean(), np.random.default_rng(0))
    return 1000.0 / max(float(np.median(healthy[anatomy.liver > 0.9])), 1e-6)


def _stored(images: Sequence[Voxels]) -> HalfPrecision:
    return np.stack([np.clip(np.rint(i), -32000, 32000).astype(np.int16) for i in images])
