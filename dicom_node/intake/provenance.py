"""Whether this node made an object: nothing that it made is ever taken as its input."""

from __future__ import annotations

from pydicom.dataset import Dataset

MANUFACTURER = "Hepatocast"
"""Manufacturer (0008,0070) of every object that the node makes."""


def is_made_here(header: Dataset) -> bool:
    """Return whether a node like this one is the last maker of the object.

    Only the Manufacturer of the object itself counts. An object that a person edited from one of
    ours (a SEG with a corrected outline) names the editing system as Manufacturer and keeps the
    node in its Contributing Equipment Sequence: it is new input, not ours (PS3.3 C.7.5.1, C.12.1).
    The ledger of sent objects is the second way to recognise our own, for senders that rewrite
    the attribute.

    Parameters
    ----------
    header : Dataset
        With Manufacturer, where the object has it.
    """
    manufacturer = str(header.get("Manufacturer", "") or "").strip()
    return manufacturer.casefold() == MANUFACTURER.casefold()
