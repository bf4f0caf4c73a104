"""Angiographies as vectors: what they tell, and what is passed over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from inference.case import ClinicalRecord, Instance, Series
from inference.models.angiography import ENCODER, WIDTH, angiogram_vector, describe_angiographies, read_run
from inference.models.evidence import EvidenceWanted
from inference.results import BundleInfo, GeneratedCourse, StudyResults
from inference.stages.describe import Described, describe
from tests.builders.angiographies import FRAMES, SIDE, run, write_run
from tests.builders.reports import Person, angiogram, written
from tests.builders.results import results


def test_what_passes_through_the_vessel_is_measured_and_brightness_is_not() -> None:
    weak, strong = (angiogram_vector(run(filling)) for filling in (0.2, 0.8))
    assert weak.shape == (WIDTH,)
    assert strong[49] > weak[49] > 0  # The mean of the largest opacity.
    np.testing.assert_allclose(angiogram_vector(run(0.8, bright=4000.0)), strong, atol=0.05)
    np.testing.assert_allclose(angiogram_vector(run(0.0)), 0.0, atol=1e-6)


def test_the_matrix_of_the_detector_changes_little() -> None:
    small, large = angiogram_vector(run(0.6)), angiogram_vector(run(0.6, side=4 * SIDE))
    assert np.linalg.norm(small - large) < 0.2 * np.linalg.norm(large)


def test_a_single_subtracted_frame_has_a_vector_too() -> None:
    found = angiogram_vector(run(0.6)[2:3])
    assert np.isfinite(found).all()
    assert found[49] > 0


def test_a_run_is_read_with_its_mask_frame_first(tmp_path: Path) -> None:
    frames = run(0.6)
    item = Dataset()
    item.MaskOperation, item.MaskFrameNumbers = "AVG_SUB", [3]
    path = write_run(tmp_path, frames, MaskSubtractionSequence=DicomSequence([item]))
    found = read_run(path)
    np.testing.assert_array_equal(found[0], frames[2])
    assert len(found) == FRAMES
    inverted = write_run(tmp_path, frames.max() - frames, 2, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read_run(inverted)[0], frames[0] - frames.min())


def test_runs_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    whole = write_run(tmp_path, run(0.6))
    broken = written(angiogram(Person(), 2), tmp_path / "without_pixels.dcm")
    text = tmp_path / "text.dcm"
    text.write_text("no DICOM", encoding="utf-8")
    found = describe_angiographies([broken, text, whole])
    assert found is not None
    assert (found.encoder, found.vectors.shape) == (ENCODER, (1, WIDTH))
    np.testing.assert_allclose(found.vectors[0], angiogram_vector(run(0.6)), rtol=1e-5, atol=1e-6)
    assert describe_angiographies([broken, text]) is None
    assert describe_angiographies([]) is None


class Wanting:
    """A survival model that takes angiographies of an encoder."""

    info = BundleInfo("model", "1", "f" * 64, "simulated")

    def __init__(self, encoder: str) -> None:
        self.wants = EvidenceWanted(angiogram_encoder=encoder)


@pytest.fixture(scope="module")
def study() -> StudyResults:
    return results()


def described(study: StudyResults, encoder: str, *files: Path) -> Described:
    series = [Series(str(n), "XA", (Instance(path, Dataset()),)) for n, path in enumerate(files)]
    courses = [GeneratedCourse("tace", (), ())]
    model = Wanting(encoder)
    return describe(study.baseline, study.segmentation, ClinicalRecord(), courses, None, model, series)  # type: ignore[arg-type]


def test_a_model_is_given_the_angiographies_of_its_encoder_and_no_others(
    study: StudyResults, tmp_path: Path
) -> None:
    path = write_run(tmp_path, run(0.6))
    found = described(study, ENCODER, path)
    assert found.notes == ()
    runs = found.evidence["tace"].angiographies
    assert runs is not None
    assert len(runs.vectors) == 1
    other = described(study, "angiogram features 0", path)
    assert other.evidence["tace"].angiographies is None
    assert "another encoder" in other.notes[0]
    for encoder, files in (("", (path,)), (ENCODER, ())):
        assert described(study, encoder, *files) == Described(
            {"tace": type(found.evidence["tace"])(None, (), None)}, ()
        )
    broken = written(angiogram(Person(), 9), tmp_path / "broken.dcm")
    assert "could be read" in described(study, ENCODER, broken).notes[0]
