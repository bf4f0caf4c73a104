"""What is known of one patient beside clinical values and lesions: images, angiographies, reports as vectors.

Laboratory values over time come with the clinical record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from inference.case import TextToken
from inference.results import FloatArray


class ImageKind(StrEnum):
    """Where an image comes from."""

    BASELINE = "baseline"
    REAL = "real follow-up"
    VIRTUAL = "virtual follow-up"


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """Images of one patient as vectors, in the order of their months.

    Attributes
    ----------
    encoder : str
        SHA-256 of the bundle that made the vectors; those of different encoders cannot be compared.
    vectors : array of float32, (images, width)
    months : array, (images,)
        After the start of treatment, 0 at baseline.
    kinds : tuple of ImageKind
    """

    encoder: str
    vectors: npt.NDArray[np.float32]
    months: FloatArray
    kinds: tuple[ImageKind, ...]


@dataclass(frozen=True, slots=True)
class AngiogramEvidence:
    """Angiographies of one patient from before the treatment as vectors.

    Attributes
    ----------
    encoder : str
        Name of what made the vectors; those of different encoders cannot be compared.
    vectors : array of float32, (runs, width)
    """

    encoder: str
    vectors: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Any part may be missing."""

    images: ImageEvidence | None = None
    texts: tuple[TextToken, ...] = ()
    angiographies: AngiogramEvidence | None = None


NOTHING_MORE = Evidence()


@dataclass(frozen=True, slots=True)
class EvidenceWanted:
    """What a survival model takes beside clinical values and lesions.

    Attributes
    ----------
    image_encoder : str
        SHA-256 of the bundle whose image vectors it was trained with; empty where it takes none.
    text_encoder : str
        Name of the encoder whose text vectors it was trained with; empty where it takes none.
    angiogram_encoder : str
        Name of the encoder whose vectors of angiographies it was trained with; empty where it takes none.
    """

    image_encoder: str = ""
    text_encoder: str = ""
    angiogram_encoder: str = ""


CLINICAL_ONLY = EvidenceWanted()


def text_vector(texts: Sequence[TextToken], encoder: str) -> FloatArray | None:
    """Return the mean vector of the texts of one encoder, None where there is no such text."""
    vectors = [token.vector for token in texts if encoder and token.encoder == encoder]
    return np.mean(np.asarray(vectors, dtype=np.float64), axis=0) if vectors else None
