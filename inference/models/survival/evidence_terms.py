"""Terms of all that is known beside the clinical columns: each part may be missing and then adds 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from inference.models.survival.laboratory import LaboratoryTerms
from inference.models.survival.tokens import (
    ANGIOGRAPHY,
    LABORATORY,
    DatedLayout,
    DatedTokens,
    no_tokens,
    one_each,
)
from inference.models.survival.vector_terms import VectorTerms
from inference.results import FloatArray

if TYPE_CHECKING:
    from inference.models.survival.fitted import Inputs

TEXT, BASELINE, FOLLOW_UP = "text", "baseline", "follow_up"
PARTS = (LABORATORY, TEXT, ANGIOGRAPHY, BASELINE, FOLLOW_UP)
"""In the order in which they are fitted: each says what those before it do not."""
PART_TITLES: Mapping[str, str] = MappingProxyType(
    {
        LABORATORY: "laboratory values over time",
        TEXT: "texts of reports",
        ANGIOGRAPHY: "angiography",
        BASELINE: "baseline images",
        FOLLOW_UP: "follow-up images",
    }
)
"""As forecasts name what they rest on."""


@dataclass(frozen=True, slots=True)
class EvidenceTerms:
    """How each part becomes terms; the attributes are named as in `PARTS`."""

    laboratory: LaboratoryTerms
    text: VectorTerms
    angiography: VectorTerms
    baseline: VectorTerms
    follow_up: VectorTerms

    def __call__(self, inputs: Inputs) -> dict[str, FloatArray]:
        """Return the terms of n patients by part, (n, q) each."""
        return {
            LABORATORY: self.laboratory(tokens_of(inputs, self.laboratory.layout)),
            TEXT: self.text(one_each(inputs.text)),
            ANGIOGRAPHY: self.angiography(tokens_of(inputs, angiography_layout(self.angiography))),
            BASELINE: self.baseline(inputs.images),
            FOLLOW_UP: self.follow_up(inputs.images),
        }


def angiography_layout(terms: VectorTerms) -> DatedLayout:
    """Return the shape of the tokens of angiographies."""
    return DatedLayout(ANGIOGRAPHY, (ANGIOGRAPHY,), terms.mean.shape[1])


def tokens_of(inputs: Inputs, layout: DatedLayout) -> DatedTokens:
    """Return the tokens of one modality; none where nobody has it."""
    found = inputs.beside.get(layout.name)
    return no_tokens(len(inputs), layout.width) if found is None else found
