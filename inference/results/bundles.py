"""What a result was made with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What a result was made with. `trained_on` is one of the words of the bundle's metadata."""

    name: str
    version: str
    sha256: str
    trained_on: str
