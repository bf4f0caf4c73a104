from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.imaging.radiomics import FEATURE_NAMES
from inference.models.image_features.patient_radiomics import REGIONS, patient_radiomics
from tests.builders.liver_crops import liver_crop


def test_names_are_the_same_for_every_patient_and_unique() -> None:
    whole = patient_radiomics(liver_crop(), "CT")
    without = patient_radiomics(liver_crop(balls=()), "CT")
    assert whole.names == without.names
    shapes = sum(name.startswith("shape_") for name in FEATURE_NAMES)
    assert len(set(whole.names)) == len(whole.names) == 3 * (shapes + 2 * (len(FEATURE_NAMES) - shapes))
    assert whole.present.all()


def test_the_largest_lesion_the_union_and_the_liver_without_them() -> None:
    crop = liver_crop()
    found = patient_radiomics(crop, "CT").as_dict()
    voxel = 2.25**3
    assert found["largest_shape_voxel_volume"] == pytest.approx((crop.lesion == 1).sum() * voxel)
    assert found["lesions_shape_voxel_volume"] == pytest.approx((crop.lesion > 0).sum() * voxel)
    assert found["liver_shape_voxel_volume"] == pytest.approx(
        ((crop.liver > 0) & (crop.lesion == 0)).sum() * voxel
    )
    assert found["lesions_arterial_intensity_mean"] == pytest.approx(120.0, abs=2.0)
    assert found["lesions_portal_venous_intensity_mean"] == pytest.approx(90.0, abs=2.0)
    assert found["liver_arterial_intensity_mean"] == pytest.approx(65.0, abs=1.0)


def test_without_lesions_only_the_liver_is_measured() -> None:
    found = patient_radiomics(liver_crop(balls=()), "CT")
    for region in REGIONS:
        present = [ok for name, ok in zip(found.names, found.present, strict=True) if name.startswith(region)]
        assert all(present) if region == "liver" else not any(present)


def test_a_phase_that_was_not_acquired_is_missing() -> None:
    crop = liver_crop()
    images = crop.images.copy()
    images[0] = np.nan
    found = patient_radiomics(replace(crop, images=images), "CT")
    values = found.as_dict()
    assert all(np.isnan(v) for name, v in values.items() if "_arterial_" in name)
    assert all(np.isfinite(v) for name, v in values.items() if "_arterial_" not in name)


def test_mr_does_not_depend_on_the_scale_of_intensities() -> None:
    crop = liver_crop()
    scaled = replace(crop, images=crop.images * np.float32(4.0))
    one, other = patient_radiomics(crop, "MR").as_dict(), patient_radiomics(scaled, "MR").as_dict()
    for name in one:
        if "_gl" in name or "_ngtdm" in name or "_histogram" in name:
            assert other[name] == pytest.approx(one[name], rel=2e-2), name
