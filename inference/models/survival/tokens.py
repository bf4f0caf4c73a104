"""What is known of patients as tokens: clinical terms, text, the regimen, and vectors with their times.

Everything that has a time is of one form, `DatedTokens`: a vector, what kind it is, how many months after
the start of treatment, and whether it is there. Images are such tokens, and so are laboratory values over
time and angiographies. Every part may be missing for some patients. A missing part is 0 and marked, never
guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference.models.survival.terms import TermMatrix
from inference.results import FloatArray

BoolArray = npt.NDArray[np.bool_]
IMAGE_WIDTH = 256
LABORATORY, ANGIOGRAPHY = "laboratory", "angiography"
"""Modalities of dated tokens beside the images."""


@dataclass(frozen=True, slots=True)
class DatedLayout:
    """Shape of one modality of dated tokens.

    Attributes
    ----------
    name : str
        Of the modality, such as `LABORATORY`.
    kinds : tuple of str
        What `DatedTokens.kind` counts: the variables of laboratory values.
    width : int
        Length of a vector.
    """

    name: str
    kinds: tuple[str, ...]
    width: int


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
    beside : tuple of DatedLayout
        Modalities of dated tokens beside the images.
    """

    columns: tuple[int, ...]
    text_width: int = 0
    image_kinds: tuple[str, ...] = ()
    image_width: int = IMAGE_WIDTH
    regimens: tuple[str, ...] = ()
    beside: tuple[DatedLayout, ...] = ()


@dataclass(frozen=True, slots=True)
class DatedTokens:
    """Up to K vectors of one modality of each of n patients.

    Attributes
    ----------
    features : array, (n, K, width)
    kind : array of int, (n, K)
        Index into the kinds of the modality.
    months : array, (n, K)
        After the start of treatment; 0 or less for what was known before it.
    known : array of bool, (n, K)
    """

    features: npt.NDArray[np.float32]
    kind: npt.NDArray[np.intp]
    months: FloatArray
    known: BoolArray

    def __len__(self) -> int:
        return len(self.known)

    def of(self, patients: npt.NDArray[np.intp]) -> DatedTokens:
        """Return the tokens of some patients."""
        return DatedTokens(
            self.features[patients], self.kind[patients], self.months[patients], self.known[patients]
        )


def no_tokens(patients: int, width: int = IMAGE_WIDTH) -> DatedTokens:
    """Return that there are no tokens of a modality of so many patients."""
    return DatedTokens(
        np.zeros((patients, 0, width), dtype=np.float32),
        np.zeros((patients, 0), dtype=np.intp),
        np.zeros((patients, 0)),
        np.zeros((patients, 0), dtype=np.bool_),
    )


def one_each(vectors: npt.NDArray[np.float32]) -> DatedTokens:
    """Return tokens of one kind, known before treatment; rows (n, width) of NaN are not known."""
    n, width = vectors.shape
    known = np.isfinite(vectors).all(axis=1) & (width > 0)
    return DatedTokens(
        np.where(known[:, None], vectors, 0.0).astype(np.float32)[:, None, :],
        np.zeros((n, 1), dtype=np.intp),
        np.zeros((n, 1)),
        known[:, None],
    )


def angiogram_tokens(runs: Sequence[npt.NDArray[np.float32]], width: int) -> DatedTokens:
    """Return the angiographies of n patients, (runs, width) each, as tokens known before treatment."""
    n, most = len(runs), max((len(vectors) for vectors in runs), default=0)
    found = (
        no_tokens(n, width)
        if not most
        else DatedTokens(
            np.zeros((n, most, width), dtype=np.float32),
            np.zeros((n, most), dtype=np.intp),
            np.zeros((n, most)),
            np.zeros((n, most), dtype=np.bool_),
        )
    )
    for place, vectors in enumerate(runs):
        found.features[place, : len(vectors)] = vectors
        found.known[place, : len(vectors)] = True
    return found


@dataclass(frozen=True, slots=True)
class Tokens:
    """All that is known of n patients.

    Attributes
    ----------
    clinical : array, (n, V, C)
        Terms of the V clinical variables, padded with 0 to C.
    text : array, (n, text width)
        Rows of NaN where there is no text.
    images : DatedTokens
    regimen : array of int, (n,)
        Index into `Layout.regimens`; -1 where it is not known.
    beside : mapping
        Modality of `Layout.beside` -> its tokens.
    """

    clinical: npt.NDArray[np.float32]
    text: npt.NDArray[np.float32]
    images: DatedTokens
    regimen: npt.NDArray[np.intp]
    beside: Mapping[str, DatedTokens] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clinical)

    def of(self, patients: npt.NDArray[np.intp]) -> Tokens:
        """Return the tokens of some patients."""
        return Tokens(
            self.clinical[patients],
            self.text[patients],
            self.images.of(patients),
            self.regimen[patients],
            {name: tokens.of(patients) for name, tokens in self.beside.items()},
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
        no_tokens(n),
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
    return (*(name for name, there in present if there), *(group.name for group in layout.beside))
