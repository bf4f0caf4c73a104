"""What is known of patients as tokens: clinical terms, text, images with their times, and the regimen.

Every part may be missing for some patients. A missing part is 0 and marked, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.models.survival.terms import TermMatrix
from inference.results import FloatArray

BoolArray = npt.NDArray[np.bool_]
IMAGE_WIDTH = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """Shapes of the tokens.

    Attributes
    ----------
    columns : tuple of int
        How many terms each clinical variable has.
    text_width : int
        Length of a text token, 0 without texts.
    image_kinds : tuple of str
        Such as ``baseline arterial`` or ``virtual portal``; none without images.
    image_width : int
    regimens : tuple of str
    """

    columns: tuple[int, ...]
    text_width: int = 0
    image_kinds: tuple[str, ...] = ()
    image_width: int = IMAGE_WIDTH
    regimens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Images:
    """Up to K image vectors of each of n patients.

    Attributes
    ----------
    features : array, (n, K, width)
    kind : array of int, (n, K)
        Index into `Layout.image_kinds`.
    months : array, (n, K)
        After the start of treatment; 0 or less at baseline.
    known : array of bool, (n, K)
    """

    features: npt.NDArray[np.float32]
    kind: npt.NDArray[np.intp]
    months: FloatArray
    known: BoolArray

    def of(self, patients: npt.NDArray[np.intp]) -> Images:
        """Return the images of some patients."""
        return Images(
            self.features[patients], self.kind[patients], self.months[patients], self.known[patients]
        )


def no_images(patients: int, width: int = IMAGE_WIDTH) -> Images:
    """Return that there are no images of so many patients."""
    return Images(
        np.zeros((patients, 0, width), dtype=np.float32),
        np.zeros((patients, 0), dtype=np.intp),
        np.zeros((patients, 0)),
        np.zeros((patients, 0), dtype=np.bool_),
    )


@dataclass(frozen=True, slots=True)
class Tokens:
    """All that is known of n patients.

    Attributes
    ----------
    clinical : array, (n, V, C)
        Terms of the V clinical variables, padded with 0 to C.
    text : array, (n, text width)
        Rows of NaN where there is no text.
    images : Images
    regimen : array of int, (n,)
        Index into `Layout.regimens`; -1 where it is not known.
    """

    clinical: npt.NDArray[np.float32]
    text: npt.NDArray[np.float32]
    images: Images
    regimen: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.clinical)

    def of(self, patients: npt.NDArray[np.intp]) -> Tokens:
        """Return the tokens of some patients."""
        return Tokens(
            self.clinical[patients], self.text[patients], self.images.of(patients), self.regimen[patients]
        )


def clinical_tokens(matrix: TermMatrix, variables: int) -> npt.NDArray[np.float32]:
    """Arrange terms (n, p) by their variable, to (n, V, C)."""
    counts = column_counts(matrix, variables)
    tokens = np.zeros((len(matrix.x), variables, max(counts, default=0)), dtype=np.float32)
    filled = [0] * variables
    for term, variable in enumerate(matrix.columns):
        tokens[:, variable, filled[variable]] = matrix.x[:, term]
        filled[variable] += 1
    return tokens


def column_counts(matrix: TermMatrix, variables: int) -> tuple[int, ...]:
    """Return how many terms each variable has."""
    return tuple(int(n) for n in np.bincount(matrix.columns, minlength=variables)[:variables])


def table_tokens(matrix: TermMatrix, variables: int) -> Tokens:
    """Return the tokens of patients of whom only a table is known."""
    n = len(matrix.x)
    return Tokens(
        clinical_tokens(matrix, variables),
        np.zeros((n, 0), dtype=np.float32),
        no_images(n),
        np.full(n, -1, dtype=np.intp),
    )


def modalities(layout: Layout) -> tuple[str, ...]:
    """Return the modalities that the layout has, in the order of the gates."""
    present: Sequence[tuple[str, bool]] = (
        ("clinical", True),
        ("text", layout.text_width > 0),
        ("images", bool(layout.image_kinds)),
        ("regimen", bool(layout.regimens)),
    )
    return tuple(name for name, there in present if there)
