"""Segmentation objects by their headers: what each segment is, and which series it was drawn on.

Segments are recognised by their coded property type alone, never by their label. SNOMED-RT codes
are listed beside SNOMED CT because archives hold them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydicom.dataset import Dataset

from inference.case import Case, Instance
from inference.imaging.attributes import text

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_SOP_CLASSES = (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE)


class Structure(StrEnum):
    """What a segment shows, as far as this product uses it."""

    LIVER = "liver"
    TUMOUR = "tumour"
    NECROSIS = "necrosis"
    LIPIODOL = "lipiodol"
    AORTA = "aorta"
    PORTAL_VEIN = "portal vein"
    KIDNEY = "kidney"
    OTHER = "other"


PROPERTY_TYPES: Mapping[tuple[str, str], Structure] = {
    ("SCT", "10200004"): Structure.LIVER,
    ("SRT", "T-62000"): Structure.LIVER,
    ("FMA", "7197"): Structure.LIVER,
    ("SCT", "108369006"): Structure.TUMOUR,  # Neoplasm
    ("SCT", "4147007"): Structure.TUMOUR,  # Mass
    ("SCT", "25370001"): Structure.TUMOUR,  # Hepatocellular carcinoma
    ("SCT", "109841003"): Structure.TUMOUR,  # Liver cell carcinoma
    ("SCT", "52988006"): Structure.TUMOUR,  # Lesion
    ("SCT", "86049000"): Structure.TUMOUR,  # Neoplasm, Primary
    ("SCT", "126851005"): Structure.TUMOUR,  # Neoplasm of liver
    ("SCT", "95214007"): Structure.TUMOUR,  # Primary malignant neoplasm of liver
    ("SRT", "M-03000"): Structure.TUMOUR,  # Mass
    ("SRT", "M-01100"): Structure.TUMOUR,  # Lesion
    ("SRT", "M-8FFFF"): Structure.TUMOUR,  # Neoplasm
    ("SRT", "M-80003"): Structure.TUMOUR,  # Neoplasm, Primary
    ("SCT", "6574001"): Structure.NECROSIS,
    ("SRT", "M-54000"): Structure.NECROSIS,
    ("99HEPATOCAST", "HC102"): Structure.LIPIODOL,  # in segmentations of this product that a person edited
    ("SCT", "15825003"): Structure.AORTA,
    ("SRT", "T-42000"): Structure.AORTA,
    ("SCT", "32764006"): Structure.PORTAL_VEIN,
    ("SRT", "T-48810"): Structure.PORTAL_VEIN,
    ("SCT", "64033007"): Structure.KIDNEY,
    ("SCT", "18639004"): Structure.KIDNEY,  # Left kidney
    ("SCT", "9846003"): Structure.KIDNEY,  # Right kidney
    ("SRT", "T-71000"): Structure.KIDNEY,
}

_LIVER_REGIONS = frozenset(key for key, value in PROPERTY_TYPES.items() if value is Structure.LIVER)


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a segmentation object."""

    number: int
    structure: Structure
    label: str
    tracking_uid: str | None


def segmentation_instances(case: Case) -> tuple[Instance, ...]:
    """Return the segmentation objects of a study, the one to trust first.

    One with liver and tumour comes before one that lacks either; then the latest Content Date and
    Time; then the SOP Instance UID, so that the order is always the same.
    """
    found = [i for s in case.series for i in s.instances if is_segmentation(i.header)]
    found.sort(key=lambda i: i.sop_instance_uid)
    found.sort(key=lambda i: text(i.header, "ContentDate") + text(i.header, "ContentTime"), reverse=True)
    found.sort(key=lambda i: len(_wanted(segments(i.header))), reverse=True)
    return tuple(found)


def is_segmentation(header: Dataset) -> bool:
    """Whether an object is a segmentation."""
    return text(header, "SOPClassUID") in _SOP_CLASSES


def _wanted(found: Iterable[Segment]) -> set[Structure]:
    return {s.structure for s in found} & {Structure.LIVER, Structure.TUMOUR}


def segments(header: Dataset) -> tuple[Segment, ...]:
    """Return the segments of a segmentation object."""
    return tuple(_segment(item) for item in header.get("SegmentSequence") or ())


def _segment(item: Dataset) -> Segment:
    structure = PROPERTY_TYPES.get(_code(item, "SegmentedPropertyTypeCodeSequence"), Structure.OTHER)
    region = _code(item, "AnatomicRegionSequence")
    if structure is Structure.TUMOUR and region != ("", "") and region not in _LIVER_REGIONS:
        structure = Structure.OTHER
    return Segment(
        number=int(item.get("SegmentNumber", 0)),
        structure=structure,
        label=text(item, "SegmentLabel"),
        tracking_uid=text(item, "TrackingUID") or None,
    )


def _code(item: Dataset, keyword: str) -> tuple[str, str]:
    sequence = item.get(keyword)
    if not sequence:
        return "", ""
    return text(sequence[0], "CodingSchemeDesignator"), text(sequence[0], "CodeValue")


def referenced_series(header: Dataset) -> tuple[str, ...]:
    """Return the Series Instance UIDs that an object says it was made from."""
    return tuple(text(item, "SeriesInstanceUID") for item in header.get("ReferencedSeriesSequence") or ())
