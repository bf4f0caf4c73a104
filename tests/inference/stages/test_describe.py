"""Image and text vectors for the survival model: who gets them, and what is said when not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from inference.bundle_store import BundleKind
from inference.case import ClinicalRecord, TextToken
from inference.errors import ModelError
from inference.models.catalogue import load_model
from inference.models.cox import load_cox_model
from inference.models.evidence import EvidenceWanted, ImageEvidence, ImageKind, text_vector
from inference.models.flow.study import crop_study
from inference.models.image_features.describer import StudyDescriber
from inference.models.image_features.time_points import virtual_crop
from inference.results import (
    Baseline,
    BundleInfo,
    GeneratedCourse,
    NotAssessed,
    Reason,
    Segmentation,
    StudyResults,
    Survival,
)
from inference.stages.describe import describe
from tests.builders.image_encoders import write_small_encoder
from tests.builders.results import results

REFUSED = NotAssessed(Reason.ENDPOINT_NOT_COVERED, "Nothing.")
EMPTY = ClinicalRecord()


@dataclass
class Describer:
    """Returns one vector for the baseline and one for each time point, and counts how often it was asked."""

    sha256: str = "e" * 64
    modality: str = "CT"
    fails: bool = False
    asked: list[int] = field(default_factory=list)

    @property
    def info(self) -> BundleInfo:
        return BundleInfo("encoder", "1", self.sha256, "simulated")

    def covers(self, modality: str) -> bool:
        return modality == self.modality

    def describe(
        self, baseline: Baseline, segmentation: Segmentation, courses: Sequence[GeneratedCourse]
    ) -> tuple[ImageEvidence, ...]:
        self.asked.append(len(courses))
        if self.fails:
            raise ModelError("the liver lies outside")
        vector = np.ones((1, 256), dtype=np.float32)
        return tuple(ImageEvidence(self.sha256, vector, np.zeros(1), (ImageKind.BASELINE,)) for _ in courses)


@dataclass
class Wanting:
    """A survival model that takes vectors of certain encoders."""

    wants: EvidenceWanted
    info: BundleInfo = BundleInfo("model", "1", "f" * 64, "simulated")

    def predict(self, clinical, lesions, regimen, evidence=None) -> Survival:  # type: ignore[no-untyped-def]
        return Survival(REFUSED, REFUSED, REFUSED)


WANTS_IMAGES = Wanting(EvidenceWanted(image_encoder="e" * 64))


@pytest.fixture(scope="module")
def study() -> StudyResults:
    return results()


def courses_of(found: StudyResults) -> list[GeneratedCourse]:
    return [
        GeneratedCourse(f.regimen_id, tuple(p.generated for p in f.time_points), f.trajectory)
        for f in found.forecasts
    ]


def described(study: StudyResults, describer: Describer | None, model, clinical: ClinicalRecord = EMPTY):  # type: ignore[no-untyped-def]
    return describe(study.baseline, study.segmentation, clinical, courses_of(study), describer, model)


def test_every_regimen_has_the_vectors_of_its_course(study: StudyResults) -> None:
    found = described(study, Describer(), WANTS_IMAGES)
    assert list(found.evidence) == ["tace", "haic"]
    assert all(e.images is not None and e.images.encoder == "e" * 64 for e in found.evidence.values())
    assert found.notes == ()


def test_a_model_that_takes_no_images_costs_no_time_and_no_note(study: StudyResults) -> None:
    describer = Describer()
    for model in (load_cox_model(), Wanting(EvidenceWanted())):
        found = described(study, describer, model)
        assert all(e.images is None for e in found.evidence.values())
        assert found.notes == ()
    assert describer.asked == []


@pytest.mark.parametrize(
    ("describer", "reason"),
    [
        (None, "no image encoder is active"),
        (Describer(sha256="a" * 64), "is not the one that the survival model was trained with"),
        (Describer(modality="MR"), "does not read CT"),
        (Describer(fails=True), "could not be described"),
    ],
    ids=["no encoder", "another encoder", "another modality", "failed"],
)
def test_without_fitting_vectors_survival_rests_on_clinical_values_and_says_so(
    study: StudyResults, describer: Describer | None, reason: str
) -> None:
    found = described(study, describer, WANTS_IMAGES)
    assert [e.images for e in found.evidence.values()] == [None, None]
    assert len(found.notes) == 1
    assert found.notes[0].startswith("Survival rests on clinical values and regimen alone: ")
    assert reason in found.notes[0]


def test_texts_of_the_encoder_of_the_model_reach_it_and_others_do_not(study: StudyResults) -> None:
    own, other = TextToken("report", "ngrams", (1.0, 3.0)), TextToken("report", "other", (9.0, 9.0))
    model = Wanting(EvidenceWanted(text_encoder="ngrams"))
    found = described(study, None, model, ClinicalRecord(texts=(own, other)))
    assert found.evidence["tace"].texts == (own,)
    assert found.notes == ()
    refused = described(study, None, model, ClinicalRecord(texts=(other,)))
    assert refused.evidence["tace"].texts == ()
    assert "another encoder" in refused.notes[0]


def test_several_texts_are_one_mean_vector() -> None:
    tokens = [
        TextToken("a", "x", (1.0, 3.0)),
        TextToken("b", "x", (3.0, 5.0)),
        TextToken("c", "y", (9.0, 9.0)),
    ]
    assert text_vector(tokens, "x") == pytest.approx([2.0, 4.0])
    assert text_vector(tokens, "z") is None
    assert text_vector(tokens, "") is None


@pytest.fixture(scope="module")
def describer(tmp_path_factory: pytest.TempPathFactory) -> StudyDescriber:
    found = load_model(write_small_encoder(tmp_path_factory.mktemp("encoder")), BundleKind.IMAGE_VECTORS)
    assert isinstance(found, StudyDescriber)
    return found


def test_the_describer_sees_the_baseline_and_each_virtual_time_point(
    study: StudyResults, describer: StudyDescriber
) -> None:
    courses = courses_of(study)
    twice = courses[0].time_points[0]
    courses[0] = GeneratedCourse("tace", (*courses[0].time_points, twice), courses[0].trajectory)
    courses.append(GeneratedCourse("sirt", (), (), REFUSED))
    tace, haic, sirt = describer.describe(study.baseline, study.segmentation, courses)
    assert tace.months.tolist() == [0.0, 1.0, 2.5, 6.0]
    assert tace.kinds == (ImageKind.BASELINE, *(ImageKind.VIRTUAL,) * 3)
    assert tace.encoder == describer.info.sha256
    assert sirt.kinds == (ImageKind.BASELINE,)
    crops = [crop_study(study.baseline, study.segmentation).crop]
    crops += [virtual_crop(study.baseline, study.segmentation, p) for p in courses[1].time_points]
    np.testing.assert_array_equal(haic.vectors, describer.model.image_vectors(crops))
    np.testing.assert_array_equal(tace.vectors[0], haic.vectors[0])
    assert not np.array_equal(tace.vectors[1], haic.vectors[1])


def test_the_describer_reads_the_modality_it_was_trained_on(tmp_path: Path) -> None:
    describer = StudyDescriber.from_bundle(write_small_encoder(tmp_path / "mr", modality="MR"))
    assert describer.covers("MR")
    assert not describer.covers("CT")
