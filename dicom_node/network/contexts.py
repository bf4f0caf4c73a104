"""What the node accepts: SOP classes and transfer syntaxes (PS3.4 annex B, PS3.5 annex A)."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)
from pynetdicom.presentation import PresentationContext, build_context

VERIFICATION = UID("1.2.840.10008.1.1")
STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
STORAGE_COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1.1")

STORAGE_CLASSES: dict[UID, str] = {
    UID("1.2.840.10008.5.1.4.1.1.2"): "CT Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.2.1"): "Enhanced CT Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.2.2"): "Legacy Converted Enhanced CT Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.4"): "MR Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.4.1"): "Enhanced MR Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.4.4"): "Legacy Converted Enhanced MR Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.12.1"): "X-Ray Angiographic Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.12.1.1"): "Enhanced XA Image Storage",
    UID("1.2.840.10008.5.1.4.1.1.66.4"): "Segmentation Storage",
    UID("1.2.840.10008.5.1.4.1.1.88.11"): "Basic Text SR Storage",
    UID("1.2.840.10008.5.1.4.1.1.88.22"): "Enhanced SR Storage",
    UID("1.2.840.10008.5.1.4.1.1.88.33"): "Comprehensive SR Storage",
    UID("1.2.840.10008.5.1.4.1.1.88.34"): "Comprehensive 3D SR Storage",
}
"""What can be the input of a forecast, or describe it. Nothing else is kept, so nothing else is
accepted: secondary captures of a study stay where they are, and its PDFs unless `clinical.sources` of the
configuration read them."""

UNCOMPRESSED: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

UNREADABLE: dict[UID, str] = {
    JPEGExtended12Bit: "no decoder here reads its 12-bit form, which is why it is used",
}
"""Transfer syntaxes whose decoder says that it is there and cannot read what senders make."""


def _has_decoder(transfer_syntax: UID) -> bool:
    try:
        return bool(get_decoder(transfer_syntax).is_available)
    except NotImplementedError:
        return False


def readable_transfer_syntaxes() -> tuple[UID, ...]:
    """Return the transfer syntaxes that can be decoded here, uncompressed ones first."""
    compressed = [
        uid
        for uid in AllTransferSyntaxes
        if uid not in UNCOMPRESSED and uid not in UNREADABLE and _has_decoder(uid)
    ]
    return (*UNCOMPRESSED, *compressed)


def supported_contexts(further: Iterable[str] = ()) -> list[PresentationContext]:
    """Return the presentation contexts of the listener.

    Parameters
    ----------
    further : iterable of str
        SOP classes that the configuration asks for beside `STORAGE_CLASSES`.

    Storage commitment is accepted in both roles: others ask us to commit (N-ACTION), and a PACS
    answers our own requests over an association that it opens (N-EVENT-REPORT, PS3.4 J.3.3).
    """
    syntaxes: list[str | UID] = list(readable_transfer_syntaxes())
    classes = dict.fromkeys((*STORAGE_CLASSES, *map(UID, further)))
    contexts = [build_context(uid, syntaxes) for uid in classes]
    contexts.append(build_context(VERIFICATION, list(UNCOMPRESSED)))
    commitment = build_context(STORAGE_COMMITMENT, list(UNCOMPRESSED))
    commitment.scu_role = True
    commitment.scp_role = True
    contexts.append(commitment)
    return contexts
