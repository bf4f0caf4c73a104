"""Baselines of a cohort as image vectors, with the digest that a served model asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.models.evidence import ImageKind
from inference.models.image_features.vectors import ImageVectors
from inference.training.features import crop_of
from inference.training.network_channels import drawn_images
from inference.training.survival.baseline_images import baseline_images
from inference.training.survival.sources import read_image_file, write_image_file
from tests.builders.image_encoders import write_small_encoder
from tests.builders.small_cohorts import small_cohort


def test_every_patient_has_the_vector_of_the_baseline_alone(tmp_path: Path) -> None:
    cohort = small_cohort(tmp_path / "cohort", 4)
    model = ImageVectors.from_bundle(write_small_encoder(tmp_path / "encoder"))
    found = baseline_images(cohort, model, tmp_path / "kept", lambda *_: None)
    assert found.patient_ids == tuple(cohort.patients["patient_id"])
    assert found.kinds == (ImageKind.BASELINE.value,)
    assert found.encoder == model.info.sha256
    assert found.images.features.shape == (4, 1, 256)
    assert found.images.known.all()
    assert not found.images.months.any()
    last = crop_of(drawn_images(cohort, found.patient_ids[-1]))
    np.testing.assert_array_equal(found.images.features[-1], model.image_vectors([last]))
    write_image_file(tmp_path / "images.npz", found)
    assert read_image_file(tmp_path / "images.npz").encoder == model.info.sha256
