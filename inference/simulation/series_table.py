"""The series of simulated studies: numbers, descriptions, times and what the headers say of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.case import Phase
from inference.simulation.acquisition import Scanner

_Attribute = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """How one phase is written.

    Attributes
    ----------
    description : Series Description; ``{mm}`` becomes the slice thickness
    delay_s : seconds from the start of the bolus; None before contrast
    before_s : seconds to the start of the bolus, where there is no delay; negative
    attributes : further attributes by keyword
    """

    phase: Phase
    modality: str
    number: int
    description: str
    delay_s: int | None
    attributes: Mapping[str, _Attribute]
    agent: str = "Iodinated contrast medium"
    before_s: int = -60


_CT: Mapping[str, _Attribute] = {"KVP": "120", "ConvolutionKernel": "B30f"}
_T1: Mapping[str, _Attribute] = {
    "ScanningSequence": "GR",
    "SequenceVariant": "SP",
    "ScanOptions": "FS",
    "MRAcquisitionType": "3D",
    "RepetitionTime": "4.1",
    "EchoTime": "1.9",
    "EchoTrainLength": "1",
    "FlipAngle": "10",
    "MagneticFieldStrength": "1.5",
}
_T2: Mapping[str, _Attribute] = {
    "ScanningSequence": "SE",
    "SequenceVariant": "SK",
    "ScanOptions": "FS",
    "MRAcquisitionType": "2D",
    "RepetitionTime": "2500",
    "EchoTime": "90",
    "EchoTrainLength": "22",
    "FlipAngle": "150",
    "MagneticFieldStrength": "1.5",
}
_GADOLINIUM = "Gadolinium based contrast medium"

SERIES: Mapping[Phase, SeriesPlan] = {
    p.phase: p
    for p in (
        SeriesPlan(Phase.NATIVE, "CT", 2, "Abdomen native {mm:.1f} B30f", None, _CT),
        SeriesPlan(Phase.ARTERIAL, "CT", 3, "Abdomen arterial {mm:.1f} B30f", 38, _CT),
        SeriesPlan(Phase.PORTAL_VENOUS, "CT", 4, "Abdomen portal venous {mm:.1f} B30f", 75, _CT),
        SeriesPlan(Phase.DELAYED, "CT", 5, "Abdomen delayed {mm:.1f} B30f", 240, _CT),
        SeriesPlan(Phase.T2, "MR", 2, "T2 TSE fs tra {mm:.1f}", None, _T2, before_s=-110),
        SeriesPlan(Phase.T1, "MR", 3, "T1 VIBE fs tra native {mm:.1f}", None, _T1),
        SeriesPlan(
            Phase.T1_ARTERIAL, "MR", 4, "T1 VIBE fs tra arterial {mm:.1f}", 25, _T1, agent=_GADOLINIUM
        ),
        SeriesPlan(
            Phase.T1_PORTAL_VENOUS,
            "MR",
            5,
            "T1 VIBE fs tra portal venous {mm:.1f}",
            70,
            _T1,
            agent=_GADOLINIUM,
        ),
    )
}
"""All series that are written, in the order of acquisition."""

SCANNER_MODELS: Mapping[tuple[Scanner, str], str] = {
    (Scanner.STANDARD, "CT"): "Simulated CT",
    (Scanner.SHIFTED, "CT"): "Simulated CT, shifted",
    (Scanner.STANDARD, "MR"): "Simulated MR",
    (Scanner.SHIFTED, "MR"): "Simulated MR, shifted",
}

CT_WINDOW = ("80", "320")
"""Window Center and Window Width of CT."""
