from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.errors import TrainingDataError
from inference.models.image_features.inputs import INPUT_CHANNELS
from inference.models.image_features.sequences import ImageKind
from inference.models.image_features.slices import SliceFeatures, SliceSettings, tumour_slices
from inference.models.image_features.vectors import DIMENSION, ImageVectors
from inference.training.cohort import Cohort, Split
from inference.training.features import crop_of
from inference.training.image_features.cohort_vectors import cohort_vectors
from inference.training.image_features.objectives import augmented, contrastive_loss, target_loss
from inference.training.image_features.samples import (
    TARGETS,
    follow_up_crop,
    prepare,
    read_sample,
    sample_of,
)
from inference.training.image_features.self_distillation import (
    SelfDistilled,
    SliceTraining,
    train_slices,
    view_of,
)
from inference.training.image_features.train import EncoderTraining, train_encoder
from inference.training.loop import Keep, LoopSettings
from tests.builders.liver_crops import liver_crop
from tests.builders.small_cohorts import small_cohort


def _quiet(text: str, share: float) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    found = small_cohort(tmp_path_factory.mktemp("cohort"), 10)
    patients = found.patients.copy()
    patients.loc[patients["split"] == "test", "split"] = "validation"
    return replace(found, patients=patients)


def test_a_follow_up_keeps_the_noise_of_the_baseline(cohort: Cohort) -> None:
    patient = cohort.images(cohort.ids(Split.TRAIN)[0])
    assert patient.clean is not None
    seen = patient.follow_ups[0]
    crop = follow_up_crop(patient, seen)
    unchanged = (seen.images == patient.clean).all(axis=0)
    assert (crop.images[:, unchanged] == patient.images[:, unchanged]).all()
    assert (crop.fractions == seen.fractions / np.float32(255)).all()


def test_targets_are_what_is_measured(cohort: Cohort) -> None:
    patient = cohort.images(cohort.ids(Split.TRAIN)[0])
    row = {**cohort.row(patient.patient_id), "portal_vein_thrombosis": 1}
    sample = sample_of(patient, row, "CT", patient.follow_ups[:2])
    found = dict(zip(TARGETS, sample.targets.T, strict=True))
    viable = crop_of(patient).volumes_ml()[0]
    assert found["log_viable_ml"][0] == pytest.approx(np.log(viable + 0.1))
    assert found["log_months"].tolist() == pytest.approx(np.log1p(sample.months).tolist())
    assert found["portal_vein_thrombosis"][0] == 1.0
    assert np.isnan(found["portal_vein_thrombosis"][1:]).all()
    unknown = sample_of(patient, cohort.row(patient.patient_id), "CT", ())
    assert np.isnan(unknown.targets[0, TARGETS.index("portal_vein_thrombosis")])


def test_samples_are_prepared_once_and_the_same_again(cohort: Cohort, tmp_path: Path) -> None:
    ids = cohort.ids(Split.TRAIN)[:2]
    first = prepare(cohort, ids, tmp_path / "a", np.random.default_rng(0), _quiet)
    told = {p: f.read_bytes() for p, f in first.items()}
    written = {p: f.stat().st_mtime_ns for p, f in first.items()}
    again = prepare(cohort, ids, tmp_path / "a", np.random.default_rng(0), _quiet)
    assert {p: f.stat().st_mtime_ns for p, f in again.items()} == written
    anew = prepare(cohort, ids, tmp_path / "b", np.random.default_rng(0), _quiet)
    assert {p: f.read_bytes() for p, f in anew.items()} == told
    assert read_sample(first[ids[0]]).stored.shape[:2] == (4, 6)
    other = replace(cohort, info=cohort.info.model_copy(update={"sha256": "other"}))
    with pytest.raises(TrainingDataError, match="another cohort"):
        prepare(other, ids, tmp_path / "a", np.random.default_rng(0), _quiet)


def test_contrast_prefers_views_of_one_image() -> None:
    codes = torch.eye(6)[:4]
    others = codes.roll(1, dims=0)
    assert contrastive_loss(codes, codes) < 0.1 * contrastive_loss(codes, others)
    assert float(contrastive_loss(codes[:1], codes[:1])) == 0.0


def test_unknown_targets_do_not_count() -> None:
    predicted = torch.tensor([[1.0, 5.0], [1.0, 7.0]])
    wanted = torch.tensor([[1.0, float("nan")], [1.0, 7.0]])
    assert float(target_loss(predicted, wanted)) == 0.0
    assert float(target_loss(predicted + 1.0, wanted)) == pytest.approx(0.5)


def test_views_differ_and_a_missing_phase_stays_missing() -> None:
    rng = np.random.default_rng(0)
    inputs = torch.rand(6, INPUT_CHANNELS, 8, 8, 8)
    inputs[:, -2:] = 1.0
    inputs[0, 1], inputs[0, -1] = 0.0, 0.0
    one, two = augmented(inputs, rng), augmented(inputs, rng)
    assert one.shape == inputs.shape
    assert not torch.equal(one, two)
    assert float(one[0, 1].abs().max()) == float(one[0, -1].max()) == 0.0
    # Some phase always remains.
    assert (one[:, -2:].amax(dim=(1, 2, 3, 4)) == 1.0).all()


def _training(steps: int) -> EncoderTraining:
    loop = LoopSettings(steps=steps, validate_every=4, warm_up_steps=2)
    return EncoderTraining(loop=loop, batch=3)


def test_an_encoder_is_trained_continued_and_read(cohort: Cohort, tmp_path: Path) -> None:
    whole = train_encoder(cohort, tmp_path / "whole", tmp_path / "work", _training(8), _quiet)
    assert whole["trained_on"] == "simulated: small 0, n=6"
    assert set(whole["metrics"]["r2"]) <= set(TARGETS)
    model = ImageVectors.from_bundle(tmp_path / "whole")
    found = model.image_vectors([liver_crop(), liver_crop(balls=())])
    assert found.shape == (2, DIMENSION)
    # A training that is already done only writes its bundle again.
    train_encoder(cohort, tmp_path / "again", tmp_path / "work", _training(8), _quiet)
    weights = "encoder.safetensors"
    assert (tmp_path / "again" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_an_encoder_needs_patients(cohort: Cohort, tmp_path: Path) -> None:
    nobody = replace(cohort, patients=cohort.patients.iloc[:1])
    with pytest.raises(TrainingDataError, match="at least two"):
        train_encoder(nobody, tmp_path / "out", tmp_path / "work", _training(1), _quiet)


def test_tumour_slices_are_the_largest_and_normalised() -> None:
    crop = liver_crop(balls=((4.0, 0.0, 0.0, 6.0),))
    slices = tumour_slices(crop, "CT")
    assert slices is not None
    assert slices.shape == (3, 2, 96, 96)
    assert np.abs(slices.mean(axis=(2, 3))).max() < 0.2
    assert tumour_slices(liver_crop(balls=()), "CT") is None
    images = crop.images.copy()
    images[1] = np.nan
    lacking = tumour_slices(replace(crop, images=images), "CT")
    assert lacking is not None
    assert not lacking[:, 1].any()


def test_a_view_of_everything_is_the_slice_turned_or_mirrored() -> None:
    slices = torch.rand(2, 2, 96, 96)
    part = view_of(slices, (0.4, 0.5), np.random.default_rng(0))
    assert part.shape == slices.shape
    assert not torch.equal(part, slices)


def test_the_teacher_follows_the_student_and_learns_nothing_itself() -> None:
    torch.manual_seed(0)
    settings = SliceSettings(modality="CT", patch=24, width=16, blocks=4, heads=2, prototypes=8)
    model = SelfDistilled(settings)
    with torch.no_grad():
        for weight in model.student.parameters():
            weight.add_(1.0)
    before = [w.clone() for w in model.teacher.parameters()]
    model.follow()
    for now, old, student in zip(model.teacher.parameters(), before, model.student.parameters(), strict=True):
        assert torch.allclose(now, old + 0.004 * (student - old), atol=1e-6)
    slices = torch.rand(3, 2, 96, 96)
    torch.autograd.backward(model.loss([slices, slices], [slices]))
    assert all(w.grad is None for w in model.teacher.parameters())
    assert any(w.grad is not None and w.grad.abs().max() > 0 for w in model.student.parameters())


def test_slice_features_are_trained_and_read(cohort: Cohort, tmp_path: Path) -> None:
    settings = SliceTraining(
        loop=LoopSettings(steps=3, warm_up_steps=1, validate_every=3, keep=Keep.LAST),
        batch=4,
        network=SliceSettings(modality="CT", patch=24, width=16, blocks=4, heads=2, prototypes=8),
    )
    metadata = train_slices(cohort, tmp_path / "out", tmp_path / "work", settings, _quiet)
    assert 0.0 <= metadata["metrics"]["answer_entropy"] <= 1.0
    model = SliceFeatures.from_bundle(tmp_path / "out")
    found = model.slice_features(liver_crop())
    assert found.shape == (32,)
    assert np.isfinite(found).all()
    assert np.isnan(model.slice_features(liver_crop(balls=()))).all()


def test_vectors_of_a_cohort_hold_only_what_the_patient_had(cohort: Cohort, tmp_path: Path) -> None:
    train_encoder(cohort, tmp_path / "bundle", tmp_path / "work", _training(2), _quiet)
    model = ImageVectors.from_bundle(tmp_path / "bundle")
    ids = cohort.ids(Split.TRAIN)[:2]
    found = cohort_vectors(cohort, model, ids, tmp_path / "vectors", _quiet)
    one = found[ids[0]]
    assert one.vectors.shape == (3, DIMENSION)
    assert one.months.tolist() == [0.0, 3.0, 6.0]
    assert one.kinds == (ImageKind.BASELINE, ImageKind.REAL, ImageKind.REAL)
    assert one.of(ImageKind.BASELINE).months.tolist() == [0.0]
    again = cohort_vectors(cohort, model, ids, tmp_path / "vectors", _quiet)[ids[0]]
    assert (again.vectors == one.vectors).all()
    assert again.kinds == one.kinds
    other = replace(cohort, info=cohort.info.model_copy(update={"sha256": "other"}))
    with pytest.raises(TrainingDataError, match="another cohort"):
        cohort_vectors(other, model, ids, tmp_path / "vectors", _quiet)
    magnetic = replace(cohort, info=cohort.info.model_copy(update={"modality": "MR"}))
    with pytest.raises(TrainingDataError, match="reads CT"):
        cohort_vectors(magnetic, model, ids, tmp_path / "elsewhere", _quiet)
