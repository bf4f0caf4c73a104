"""Typed access to a clinical record, and the quantities that several variables give together."""

from __future__ import annotations

from dataclasses import dataclass

from inference.case import ClinicalRecord
from inference.clinical import scores
from inference.clinical.scores import Burden, Spread


@dataclass(frozen=True, slots=True)
class Values:
    """Typed access to a record; what is missing is None."""

    record: ClinicalRecord

    def number(self, name: str) -> float | None:
        """Return a number in the unit of the variable table."""
        found = self.record.values.get(name)
        return None if found is None else float(found.value)

    def word(self, name: str) -> str | None:
        """Return a category."""
        found = self.record.values.get(name)
        return None if found is None else str(found.value)

    def yes(self, name: str) -> bool | None:
        """Return an answer."""
        found = self.record.values.get(name)
        return None if found is None else bool(found.value)

    def any_yes(self, *names: str) -> bool | None:
        """Return True when one is yes, False when all are no, else None."""
        answers = [self.yes(name) for name in names]
        if any(answers):
            return True
        return None if None in answers else False

    def absent(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of `names` that the record lacks."""
        return tuple(name for name in names if name not in self.record.values)

    @property
    def burden(self) -> Burden | None:
        """Number and size of the tumours."""
        number, largest = self.number("tumour_number"), self.number("largest_tumour")
        return None if number is None or largest is None else Burden(int(number), largest / 10.0)

    @property
    def spread(self) -> Spread | None:
        """Vascular invasion and extrahepatic spread."""
        vascular = self.vascular_invasion
        extrahepatic = self.any_yes("lymph_nodes", "metastasis")
        return None if vascular is None or extrahepatic is None else Spread(vascular, extrahepatic)

    @property
    def vascular_invasion(self) -> bool | None:
        """Macroscopic invasion of any vessel; a thrombus is one, its absence in one vein is not none."""
        if self.any_yes("portal_vein_thrombosis", "hepatic_vein_invasion"):
            return True
        if self.word("pvtt_class") not in (None, "Vp0"):
            return True
        return self.yes("vascular_invasion")

    @property
    def child_pugh_score(self) -> float | None:
        """Given Child-Pugh score, else computed from its five parts."""
        given = self.number("child_pugh_score")
        if given is not None:
            return given
        parts = (self.number("bilirubin"), self.number("albumin"), self.number("inr"))
        bilirubin, albumin, inr = parts
        ascites, encephalopathy = self.word("ascites"), self.word("encephalopathy")
        if bilirubin is None or albumin is None or inr is None or ascites is None or encephalopathy is None:
            return None
        return float(scores.child_pugh(bilirubin, albumin, inr, ascites, encephalopathy))

    @property
    def child_pugh_class(self) -> str | None:
        """Given Child-Pugh class, else that of the score."""
        given = self.word("child_pugh_class")
        if given is not None:
            return given
        score = self.child_pugh_score
        return None if score is None else scores.child_pugh_class(score)
