"""Vectors of baseline, real and virtual images; whom a bundle must not have seen."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from inference.bundle_store import METADATA, seal
from inference.errors import ModelError, TrainingDataError, UnsupportedRegimen
from inference.evaluation.arms.held_out import check_external, check_never_seen, evaluated
from inference.evaluation.arms.images import Describer
from inference.models.image_features.sequences import ImageKind
from inference.models.image_features.vectors import ImageVectors
from inference.randomness import RandomStreams
from inference.results import GeneratedCourse, GeneratedTimePoint, TimePointKind, VirtualImage
from inference.training.cohort import NO_VALUE, PatientImages, write_images
from inference.training.crop_study import crop_tissue, study_of
from inference.training.features import crop_of
from inference.training.image_features.samples import follow_up_crop
from inference.training.virtual_images import on_crop, seen_of
from tests.builders.flow_bundles import HAIC, TACE
from tests.builders.image_encoders import write_small_encoder
from tests.builders.small_cohorts import small_cohort
from tests.inference.evaluation.arms.planted import planted

LAST = 6.0


@dataclass(frozen=True)
class Oracle:
    """Draws what really happened to one patient; it was not taught so far ahead as month 7."""

    patient: PatientImages

    @property
    def info(self):
        return SimpleNamespace(name="oracle", sha256="oracle")

    def generate(self, baseline, segmentation, clinical, regimen, settings, streams):
        if max(settings.months) > LAST:
            raise UnsupportedRegimen("not so many months ahead")
        points = tuple(self._point(baseline, segmentation, regimen.id, m) for m in settings.months)
        return GeneratedCourse(regimen.id, points, ())

    def _point(self, baseline, segmentation, regimen_id, months):
        seen = next(f for f in self.patient.follow_ups if (f.regimen_id, f.months) == (regimen_id, months))
        labels = crop_tissue(seen.fractions, seen.lesion, self.patient.liver)
        images = []
        for volume in baseline.volumes:
            phase = ["arterial", "portal_venous"].index(str(volume.phase))
            change = seen.images[phase].astype(np.int32) - self.patient.clean[phase]
            box = labels.box
            stored = volume.stored[box.slices] + change[box.slices]
            images.append(VirtualImage(volume.series_instance_uid, volume.phase, box, stored))
        return GeneratedTimePoint(months, TimePointKind.SCHEDULED, tuple(images), labels, (0.0, 0.0))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return small_cohort(tmp_path_factory.mktemp("cohort"), patients=8)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return ImageVectors.from_bundle(write_small_encoder(tmp_path_factory.mktemp("encoder")))


def describer(cohort, encoder, patient_id, months=(3.0,)):
    regimens = {r.id: r for r in (TACE, HAIC)}
    return Describer(cohort, encoder, Oracle(cohort.images(patient_id)), regimens, months, 0)


def drawn(cohort, patient):
    """The study of a patient and the point of its third month, as the truth has it."""
    baseline, segmentation = study_of(replace(patient, follow_ups=(), clean=None), cohort)
    regimen = SimpleNamespace(id=patient.follow_ups[0].regimen_id)
    settings = SimpleNamespace(months=(patient.follow_ups[0].months,))
    course = Oracle(patient).generate(baseline, segmentation, None, regimen, settings, RandomStreams(0))
    return baseline, course.time_points[0]


def test_a_virtual_image_that_is_right_is_the_real_follow_up(cohort):
    patient = cohort.images(cohort.ids("test")[0])
    baseline, point = drawn(cohort, patient)
    virtual = on_crop(patient, cohort, baseline, point)
    real = follow_up_crop(patient, patient.follow_ups[0])
    for name in ("images", "liver", "fractions", "lesion"):
        np.testing.assert_allclose(getattr(virtual, name), getattr(real, name), atol=1e-6)


def test_a_phase_that_was_not_acquired_is_missing_in_virtual_images_too(cohort, tmp_path):
    patient = cohort.images(cohort.ids("test")[0])
    images = patient.images.copy()
    images[0] = NO_VALUE
    without = replace(patient, images=images, follow_ups=patient.follow_ups[:1])
    write_images(tmp_path, without)
    elsewhere = replace(cohort, folder=tmp_path)
    baseline, point = drawn(elsewhere, without)
    assert [str(v.phase) for v in baseline.volumes] == ["portal_venous"]
    virtual = on_crop(without, elsewhere, baseline, point)
    assert np.isnan(virtual.images[0]).all()
    assert np.isfinite(virtual.images[1]).all()
    np.testing.assert_array_equal(np.isnan(virtual.images), np.isnan(crop_of(without).images))


def test_images_are_those_of_the_treatment_that_was_given(cohort, encoder):
    patient_id = cohort.ids("test")[0]
    seen = describer(cohort, encoder, patient_id)(patient_id)
    kinds = list(zip(seen.vectors.kinds, seen.vectors.months.tolist(), strict=True))
    assert sorted(kinds) == sorted(
        [
            (ImageKind.BASELINE, 0.0),
            *((kind, m) for m in (3.0, 6.0) for kind in (ImageKind.REAL, ImageKind.VIRTUAL)),
        ]
    )
    real, virtual = (seen.vectors.of(kind).vectors for kind in (ImageKind.REAL, ImageKind.VIRTUAL))
    # The oracle draws what came, so its vectors are those of the real images.
    np.testing.assert_allclose(virtual, real, atol=1e-4)
    assert np.abs(real[0] - seen.vectors.of(ImageKind.BASELINE).vectors[0]).max() > 0.1
    assert seen.refused == 0


def test_a_month_that_is_too_late_hides_no_other(cohort, encoder):
    patient_id = cohort.ids("test")[0]
    seen = describer(cohort, encoder, patient_id, (3.0, 12.0))(patient_id)
    assert seen.vectors.of(ImageKind.VIRTUAL).months.tolist() == [3.0, 6.0]
    assert seen.refused == 1


def test_a_regimen_without_a_schedule_has_no_virtual_image(cohort, encoder):
    patient_id = cohort.ids("test")[0]
    seen = replace(describer(cohort, encoder, patient_id), regimens={})(patient_id)
    assert seen.vectors.of(ImageKind.VIRTUAL).months.size == 0
    assert seen.vectors.of(ImageKind.REAL).months.tolist() == [3.0, 6.0]
    assert seen.refused == 2


def test_vectors_are_kept_and_belong_to_their_models(cohort, encoder, tmp_path):
    patient_id = cohort.ids("test")[0]
    made = describer(cohort, encoder, patient_id)
    found = seen_of(made, [patient_id], tmp_path, 1, lambda *_: None)
    path = tmp_path / f"{patient_id}.npz"
    before = path.stat().st_mtime_ns
    again = seen_of(made, [patient_id], tmp_path, 1, lambda *_: None)
    assert path.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again[patient_id].vectors.vectors, found[patient_id].vectors.vectors)
    assert again[patient_id].vectors.kinds == found[patient_id].vectors.kinds
    with pytest.raises(TrainingDataError, match="another evaluation"):
        seen_of(replace(made, months=(6.0,)), [patient_id], tmp_path, 1, lambda *_: None)
    path.write_bytes(b"damaged")
    with pytest.raises(TrainingDataError, match="cannot be read"):
        seen_of(made, [patient_id], tmp_path, 1, lambda *_: None)


# ------------------------------------------------------------------ whom a bundle saw


@pytest.fixture(scope="module")
def plain_bundle(tmp_path_factory):
    return write_small_encoder(tmp_path_factory.mktemp("bundle") / "encoder")


def told(bundle, **more):
    """Seal the bundle again with what it says of its training."""
    metadata = json.loads((bundle / METADATA).read_text(encoding="utf-8"))
    for key in ("cohorts", "cohort_sha256", "sha256", "metadata_sha256"):
        metadata.pop(key, None)
    seal(bundle, {**metadata, **more})
    return str(bundle)


def test_a_bundle_must_say_that_it_never_saw_the_patients(plain_bundle):
    ours, other = planted(4).cohort, planted(4, seed=1, name="other").cohort
    named = {"name": "planted", "sha256": "planted"}
    info = check_never_seen(told(plain_bundle, cohorts=[named]), "generator", ours, [other])
    assert info.name == "small encoder"
    elsewhere = {"name": "elsewhere", "sha256": "elsewhere"}
    assert check_never_seen(told(plain_bundle, cohorts=[elsewhere]), "generator", ours, [other]) == info
    assert check_never_seen(told(plain_bundle, cohort_sha256="planted"), "generator", ours, []) == info
    with pytest.raises(ModelError, match="does not say on which cohorts"):
        check_never_seen(told(plain_bundle), "generator", ours, [])
    with pytest.raises(ModelError, match="a cohort without a name of another digest"):
        check_never_seen(told(plain_bundle, cohort_sha256="else"), "generator", ours, [])
    both = [named, {"name": "other", "sha256": "other"}]
    with pytest.raises(ModelError, match="trained on other, which is no external set"):
        check_never_seen(told(plain_bundle, cohorts=both), "generator", ours, [other])


def test_an_external_cohort_shares_no_patient():
    ours, other = planted(4).cohort, planted(4, seed=1, name="other").cohort
    check_external(ours, [other])
    renamed = replace(ours, patients=ours.patients.assign(patient_id=["a", "b", "c", "d"]))
    with pytest.raises(TrainingDataError, match="4 patients of planted are also in planted"):
        check_external(ours, [renamed])
    magnetic = replace(other, info=other.info.model_copy(update={"modality": "MR"}))
    with pytest.raises(TrainingDataError, match="is MR, not CT"):
        check_external(ours, [magnetic])


def test_only_test_patients_are_evaluated():
    ours = planted(6).cohort
    mixed = replace(ours, patients=ours.patients.assign(split=["train", "validation", *["test"] * 4]))
    assert evaluated(mixed, 100) == ours.ids("test")[2:]
    assert evaluated(mixed, 2) == ours.ids("test")[2:4]
    with pytest.raises(TrainingDataError, match="no test patients"):
        evaluated(replace(ours, patients=ours.patients.assign(split="train")), 10)
