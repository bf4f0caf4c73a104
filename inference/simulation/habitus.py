"""The build of a simulated person: body, organs and what cirrhosis does to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.simulation.disease import Appearance


@dataclass(frozen=True, slots=True)
class Habitus:
    """Sizes in mm, factors over the typical adult.

    Attributes
    ----------
    half_width_mm, front_mm, back_mm : of the cavity inside the muscles, from the spine's frame
    fat_mm : subcutaneous, at the flank
    wall_mm : muscles at the flank
    right_lobe, left_lobe, caudate, spleen, kidney : factors
    tilt : how steeply the under side of the liver rises to the left
    dome_mm : height of the right dome of the diaphragm over the usual
    visceral_fat : 0 to 1
    stomach_fill, stomach_gas : 0 to 1
    portal_mm : radius of the portal vein
    nodularity, ascites : 0 to 1, as in `disease.Appearance`
    """

    half_width_mm: float = 128.0
    front_mm: float = 112.0
    back_mm: float = 97.0
    fat_mm: float = 16.0
    wall_mm: float = 12.0
    right_lobe: float = 1.0
    left_lobe: float = 1.0
    caudate: float = 1.0
    spleen: float = 1.0
    kidney: float = 1.0
    tilt: float = 0.62
    dome_mm: float = 0.0
    visceral_fat: float = 0.5
    stomach_fill: float = 0.6
    stomach_gas: float = 0.4
    portal_mm: float = 6.5
    nodularity: float = 0.2
    ascites: float = 0.0


def draw_habitus(rng: np.random.Generator, appearance: Appearance | None = None) -> Habitus:
    """Draw a build; cirrhosis shrinks the right lobe and enlarges the left, the caudate and the spleen.

    References
    ----------
    Awaya et al. 2002, Radiology 224:769 (caudate to right lobe ratio).
    """
    nodularity = appearance.nodularity if appearance else float(rng.uniform(0.0, 0.5))
    ascites = appearance.ascites if appearance else 0.0
    obesity = float(np.clip(rng.normal(), -1.8, 2.2))
    frame = float(np.clip(rng.normal(), -2.0, 2.0))
    return Habitus(
        half_width_mm=128.0 + 4.5 * frame + 2.0 * obesity,
        front_mm=108.0 + 3.0 * frame + 10.0 * obesity + 6.0 * ascites,
        back_mm=97.0 + 2.0 * frame,
        fat_mm=float(15.0 * np.exp(0.42 * obesity + 0.15 * rng.normal())),
        wall_mm=float(np.clip(12.0 + 1.3 * rng.normal(), 9.0, 15.5)),
        right_lobe=float(np.clip(0.98 + 0.05 * rng.normal() - 0.11 * nodularity, 0.80, 1.10)),
        left_lobe=float(np.clip(0.98 + 0.10 * rng.normal() + 0.15 * nodularity, 0.75, 1.3)),
        caudate=float(np.clip(1.0 + 0.10 * rng.normal() + 0.32 * nodularity, 0.8, 1.5)),
        spleen=float(np.clip(1.0 + 0.08 * rng.normal() + 0.36 * nodularity, 0.8, 1.5)),
        kidney=float(np.clip(1.0 + 0.06 * rng.normal(), 0.85, 1.15)),
        tilt=float(np.clip(0.62 + 0.07 * rng.normal(), 0.45, 0.8)),
        dome_mm=float(np.clip(4.0 * rng.normal(), -8.0, 8.0)),
        visceral_fat=float(np.clip(0.5 + 0.25 * obesity, 0.0, 1.0)),
        stomach_fill=float(rng.uniform(0.25, 1.0)),
        stomach_gas=float(rng.uniform(0.0, 0.8)),
        portal_mm=float(np.clip(6.3 + 0.5 * rng.normal() + 0.9 * nodularity, 5.2, 8.5)),
        nodularity=nodularity,
        ascites=ascites,
    )
