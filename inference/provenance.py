"""How objects made by this product are recognised, so that none is ever taken as input."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset

MANUFACTURER = "Hepatocast"
"""Manufacturer (0008,0070) of every object this product makes."""


def is_made_here(header: Dataset | Mapping[str, object]) -> bool:
    """Whether this product is the last maker of an object.

    Only the equipment that made the object counts (General Equipment, PS3.3 C.7.5.1). A segmentation
    that a person edited in another program carries that program's Manufacturer, and keeps this
    product under Contributing Equipment: it is valid input. The node also knows its own objects by
    their UIDs, for senders that rewrite the attribute.
    """
    return str(header.get("Manufacturer", "") or "").strip().casefold() == MANUFACTURER.casefold()
