"""How archives are asked, and how studies come from them."""

from __future__ import annotations

from enum import StrEnum


class FindBy(StrEnum):
    """How an archive is asked what it has."""

    C_FIND = "c-find"
    QIDO_RS = "qido-rs"
    ORTHANC = "orthanc"


class RetrieveBy(StrEnum):
    """How studies come from an archive."""

    C_GET = "c-get"
    C_MOVE = "c-move"
    WADO_RS = "wado-rs"
