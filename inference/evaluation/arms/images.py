"""Image vectors of the patients that are evaluated: baseline, real follow-ups, virtual follow-ups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.models.image_features.sequences import ImageKind, patient_vectors
from inference.models.image_features.vectors import ImageVectors
from inference.models.protocols import Generator
from inference.settings import Regimen
from inference.training.cohort import Cohort
from inference.training.features import crop_of
from inference.training.image_features.samples import follow_up_crop
from inference.training.network_channels import drawn_images
from inference.training.virtual_images import LAST_MONTH, Seen, VirtualFollowUps


@dataclass(frozen=True, slots=True)
class Describer:
    """Makes the vectors of one patient after another.

    Attributes
    ----------
    generator : Generator
        Draws the course of median outcomes, once, as it is shown to people.
    regimens : mapping of str to Regimen
        Schedule of each regimen by its id.
    months : tuple of float
        Of the virtual images; those of the patient's real follow-ups are drawn too.
    """

    cohort: Cohort
    encoder: ImageVectors
    generator: Generator
    regimens: Mapping[str, Regimen]
    months: tuple[float, ...]
    seed: int

    @property
    def source(self) -> Mapping[str, object]:
        """Everything that decides the vectors."""
        return {
            "cohort": self.cohort.info.sha256,
            "encoder": self.encoder.info.sha256,
            "generator": self.generator.info.sha256,
            "months": self.months,
            "seed": self.seed,
        }

    def __call__(self, patient_id: str) -> Seen:
        """Return the vectors of a patient's images under the treatment that the patient had."""
        given = str(self.cohort.row(patient_id)["regimen_id"])
        patient = drawn_images(self.cohort, patient_id)
        own = [seen for seen in patient.follow_ups if seen.regimen_id == given]
        images = [(ImageKind.BASELINE, 0.0, crop_of(patient))]
        images += [(ImageKind.REAL, seen.months, follow_up_crop(patient, seen)) for seen in own]
        # Follow-ups beyond the last month that can be drawn have no virtual counterpart.
        wanted = {*self.months, *(seen.months for seen in own if 0 < seen.months <= LAST_MONTH)}
        virtual = VirtualFollowUps(self.cohort, self.generator, self.regimens, self.seed)
        drawn = virtual.drawn(patient_id, sorted(wanted))
        images += [(ImageKind.VIRTUAL, months, crop) for months, crop in drawn]
        return Seen(patient_vectors(self.encoder, images), len(wanted) - len(drawn))
