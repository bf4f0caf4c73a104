"""What the simulated abdomen is made of, and how each tissue looks in each phase.

References
----------
Attenuation: Lamba et al. 2014, AJR 203:1013 (native); portal venous and arterial values as in common
multiphase protocols of the liver (Francis et al. 2003, AJR 180:1217). MR: fat-suppressed T1 gradient
echo with an extracellular agent, fat-suppressed T2 turbo spin echo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np

from inference.case import Phase
from inference.results import Voxels


class Structure(IntEnum):
    """Values of the label map of the anatomy, without lesions."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    CAVITY_FAT = 3
    BONE_CORTEX = 4
    BONE_MARROW = 5
    CARTILAGE = 6
    CANAL = 7
    LUNG = 8
    LIVER = 9
    SPLEEN = 10
    KIDNEY_CORTEX = 11
    KIDNEY_MEDULLA = 12
    KIDNEY_SINUS = 13
    STOMACH_WALL = 14
    STOMACH_CONTENT = 15
    GAS = 16
    BOWEL_WALL = 17
    BOWEL_CONTENT = 18
    PANCREAS = 19
    GALLBLADDER = 20
    AORTA = 21
    CAVA = 22
    SKIN = 23
    COUCH = 24
    HEART = 25
    ASCITES = 26
    STOOL = 27


class Blood(StrEnum):
    """Vessels of the liver and mesentery that are drawn as trees."""

    ARTERY = "artery"
    PORTAL = "portal"
    HEPATIC = "hepatic"


CT_PHASES = (Phase.NATIVE, Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED)
"""CT phases that can be simulated, in the order of time."""

MR_DYNAMIC = (Phase.T1, Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS)
"""Phases of the dynamic MR series that can be simulated, in the order of time."""

MR_PHASES = (*MR_DYNAMIC, Phase.T2)
"""MR series that can be simulated."""

_Four = tuple[float, float, float, float]

_HU: Mapping[Structure, _Four] = {
    # HU native, late arterial (35 s), portal venous (75 s), delayed (3 to 5 min)
    Structure.AIR: (-1000, -1000, -1000, -1000),
    Structure.FAT: (-105, -104, -104, -103),
    Structure.MUSCLE: (52, 58, 65, 66),
    Structure.CAVITY_FAT: (-104, -102, -101, -101),
    Structure.BONE_CORTEX: (520, 525, 530, 528),
    Structure.BONE_MARROW: (165, 180, 190, 188),
    Structure.CARTILAGE: (95, 98, 100, 100),
    Structure.CANAL: (30, 34, 36, 38),
    Structure.LUNG: (-860, -850, -850, -852),
    Structure.LIVER: (58, 72, 112, 95),
    Structure.SPLEEN: (48, 118, 122, 98),
    Structure.KIDNEY_CORTEX: (34, 178, 192, 150),
    Structure.KIDNEY_MEDULLA: (32, 88, 172, 160),
    Structure.KIDNEY_SINUS: (-85, -80, -75, 0),
    Structure.STOMACH_WALL: (42, 80, 88, 78),
    Structure.STOMACH_CONTENT: (14, 15, 15, 15),
    Structure.GAS: (-960, -960, -960, -960),
    Structure.BOWEL_WALL: (40, 82, 94, 80),
    Structure.BOWEL_CONTENT: (24, 36, 42, 40),
    Structure.PANCREAS: (42, 104, 96, 80),
    Structure.GALLBLADDER: (8, 9, 9, 10),
    Structure.AORTA: (42, 318, 158, 112),
    Structure.CAVA: (42, 82, 138, 112),
    Structure.SKIN: (5, 8, 12, 12),
    Structure.COUCH: (-760, -760, -760, -760),
    Structure.HEART: (42, 190, 140, 105),
    Structure.ASCITES: (8, 9, 10, 12),
    Structure.STOOL: (-70, -68, -68, -68),
}

_BLOOD_HU: Mapping[Blood, _Four] = {
    Blood.ARTERY: (42, 240, 150, 110),
    Blood.PORTAL: (42, 112, 172, 116),
    Blood.HEPATIC: (42, 74, 160, 114),
}

_MR: Mapping[Structure, _Four] = {
    # Signal over that of healthy liver in T1 before contrast or in T2: T1, T1 arterial, T1 portal, T2
    Structure.AIR: (0.0, 0.0, 0.0, 0.0),
    Structure.FAT: (0.32, 0.32, 0.34, 0.45),
    Structure.MUSCLE: (0.74, 0.80, 0.95, 0.62),
    Structure.CAVITY_FAT: (0.28, 0.29, 0.30, 0.40),
    Structure.BONE_CORTEX: (0.10, 0.10, 0.12, 0.10),
    Structure.BONE_MARROW: (0.45, 0.52, 0.62, 0.75),
    Structure.CARTILAGE: (0.55, 0.56, 0.60, 0.80),
    Structure.CANAL: (0.35, 0.36, 0.40, 3.20),
    Structure.LUNG: (0.04, 0.05, 0.06, 0.06),
    Structure.LIVER: (1.00, 1.18, 1.80, 1.00),
    Structure.SPLEEN: (0.66, 1.95, 1.95, 2.30),
    Structure.KIDNEY_CORTEX: (0.82, 2.45, 2.50, 2.40),
    Structure.KIDNEY_MEDULLA: (0.60, 1.00, 2.20, 2.90),
    Structure.KIDNEY_SINUS: (0.35, 0.40, 0.60, 1.60),
    Structure.STOMACH_WALL: (0.70, 1.40, 1.60, 1.30),
    Structure.STOMACH_CONTENT: (0.40, 0.40, 0.40, 3.60),
    Structure.GAS: (0.0, 0.0, 0.0, 0.0),
    Structure.BOWEL_WALL: (0.70, 1.40, 1.65, 1.30),
    Structure.BOWEL_CONTENT: (0.50, 0.50, 0.52, 2.60),
    Structure.PANCREAS: (1.18, 2.00, 1.75, 1.30),
    Structure.GALLBLADDER: (0.55, 0.55, 0.55, 4.60),
    Structure.AORTA: (0.45, 3.10, 2.30, 0.18),
    Structure.CAVA: (0.45, 1.00, 2.10, 0.35),
    Structure.SKIN: (0.45, 0.50, 0.55, 0.55),
    Structure.COUCH: (0.0, 0.0, 0.0, 0.0),
    Structure.HEART: (0.60, 2.20, 1.90, 0.90),
    Structure.ASCITES: (0.30, 0.30, 0.32, 4.80),
    Structure.STOOL: (0.75, 0.75, 0.75, 0.90),
}

_BLOOD_MR: Mapping[Blood, _Four] = {
    Blood.ARTERY: (0.50, 2.40, 2.10, 0.45),
    Blood.PORTAL: (0.48, 1.45, 2.45, 0.42),
    Blood.HEPATIC: (0.46, 0.75, 2.30, 0.45),
}

_GRAIN_HU: Mapping[Structure, float] = {
    # Deviation over 5 to 20 mm; tissues that are not named have `_GRAIN_OTHER_HU`.
    Structure.AIR: 0.0,
    Structure.GAS: 0.0,
    Structure.COUCH: 0.0,
    Structure.GALLBLADDER: 0.5,
    Structure.ASCITES: 0.5,
    Structure.AORTA: 1.0,
    Structure.CAVA: 5.0,
    Structure.LUNG: 35.0,
    Structure.BONE_MARROW: 45.0,
    Structure.BOWEL_CONTENT: 14.0,
    Structure.BOWEL_WALL: 8.0,
    Structure.STOOL: 130.0,
    Structure.MUSCLE: 7.0,
    Structure.FAT: 5.0,
    Structure.CAVITY_FAT: 7.0,
    Structure.PANCREAS: 12.0,
    Structure.LIVER: 2.2,
    Structure.STOMACH_CONTENT: 9.0,
    Structure.HEART: 12.0,
}
_GRAIN_OTHER_HU = 2.0
_MR_GRAIN_PER_HU = 1.0 / 110.0


@dataclass(frozen=True, slots=True)
class Tumour:
    """How tumour tissue differs from the liver it lies in, in one phase, in the unit of the image.

    Attributes
    ----------
    arterial, portal, delayed : weights of the patient's own contrasts (`disease.Appearance`)
    constant : added whatever the patient
    mosaic : weight of the patient's mosaic
    capsule : added by a full capsule
    necrosis : value of dead tumour; it takes up no contrast
    """

    arterial: float
    portal: float
    delayed: float
    constant: float
    mosaic: float
    capsule: float
    necrosis: float


NECROSIS_HU = 27.0
"""Attenuation of necrosis in every phase."""

_TUMOUR: Mapping[Phase, Tumour] = {
    Phase.NATIVE: Tumour(0.0, 0.0, 0.0, -9.0, 0.30, 0.0, NECROSIS_HU),
    Phase.ARTERIAL: Tumour(1.0, 0.0, 0.0, 0.0, 1.00, 2.0, NECROSIS_HU),
    Phase.PORTAL_VENOUS: Tumour(0.0, 1.0, 0.0, 0.0, 0.70, 22.0, NECROSIS_HU),
    Phase.DELAYED: Tumour(0.0, 0.0, 1.0, 0.0, 0.60, 30.0, NECROSIS_HU),
    # Gadolinium and iodine show the same contrast in time, in units of the liver's signal.
    Phase.T1: Tumour(0.0, 0.0, 0.0, -0.22, 0.006, 0.0, 0.62),
    Phase.T1_ARTERIAL: Tumour(0.014, 0.0, 0.0, 0.0, 0.012, 0.03, 0.62),
    Phase.T1_PORTAL_VENOUS: Tumour(0.0, 0.014, 0.0, 0.0, 0.010, 0.36, 0.62),
    Phase.T2: Tumour(0.003, 0.0, 0.0, 0.50, 0.016, -0.25, 1.70),
}


def tumour(phase: Phase) -> Tumour:
    """Return how tumours look in one phase."""
    return _TUMOUR[phase]


def _row(values: _Four, phase: Phase, timing: float) -> float:
    """Value at a phase, `timing` phases later (or earlier); T2 has no time."""
    order = MR_PHASES if phase in MR_PHASES else CT_PHASES
    column = order.index(phase)
    if phase in (Phase.T2, Phase.NATIVE, Phase.T1):
        return float(values[column])
    last = len(MR_DYNAMIC) - 1 if phase in MR_PHASES else len(CT_PHASES) - 1
    at = min(max(column + timing, 0.0), float(last))
    lower = min(int(at), last - 1)
    return float(values[lower] + (at - lower) * (values[lower + 1] - values[lower]))


def appearance_table(phase: Phase, timing: float = 0.0, enhancement: float = 1.0) -> Voxels:
    """Return the value of each structure, indexed by `Structure`.

    Parameters
    ----------
    timing : float
        How much later the scan was than the phase's own time, in phases.
    enhancement : float
        Uptake of contrast over that of the table.

    Returns
    -------
    array of float32
        HU in CT; in MR signal over that of healthy liver before contrast.
    """
    source = _MR if phase in MR_PHASES else _HU
    return np.array([_enhanced(source[s], phase, timing, enhancement) for s in Structure], np.float32)


def appearance(structure: Structure, phase: Phase) -> float:
    """Value of one structure in one phase, as `appearance_table`."""
    return float(appearance_table(phase)[structure])


def blood(vessel: Blood, phase: Phase, timing: float = 0.0, enhancement: float = 1.0) -> float:
    """Value of blood in the arteries, the portal vein or the hepatic veins."""
    source = _BLOOD_MR if phase in MR_PHASES else _BLOOD_HU
    return _enhanced(source[vessel], phase, timing, enhancement)


def _enhanced(values: _Four, phase: Phase, timing: float, enhancement: float) -> float:
    value = _row(values, phase, timing)
    if phase is Phase.T2:
        return value
    return values[0] + enhancement * (value - values[0])


def grain_table(phase: Phase) -> Voxels:
    """Return the unevenness of each structure, indexed by `Structure`, in the unit of the image."""
    spread = np.array([_GRAIN_HU.get(s, _GRAIN_OTHER_HU) for s in Structure], np.float32)
    if phase in MR_PHASES:
        spread[[Structure.LUNG, Structure.STOOL, Structure.FAT, Structure.CAVITY_FAT]] *= 0.25
        spread *= np.float32(_MR_GRAIN_PER_HU)
    return spread
