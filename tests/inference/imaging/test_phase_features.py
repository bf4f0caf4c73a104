"""What the phase classifier looks at does not depend on how a volume is stored."""

from __future__ import annotations

import numpy as np
import pytest

from inference.imaging.phase_features import (
    COARSE_MM,
    IMAGE_FEATURES,
    ORGANS,
    coarse_image,
    image_features,
    organ_features,
)
from inference.results import Grid
from tests.builders.studies import Phantom, image

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))


def grid(shape=PHANTOM.shape, spacing=PHANTOM.spacing_mm, signs=(1, 1, 1)) -> Grid:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = (s * m for s, m in zip(signs, spacing, strict=True))
    affine[3, 3] = 1.0
    return Grid(shape, affine, "1")


def portal() -> np.ndarray:
    return image(PHANTOM, "portal_venous").astype(np.float32)


# ------------------------------------------------------------------ organs


def test_missing_organs_are_zero_and_flagged():
    found = organ_features({"liver": 100.0, "aorta": 180.0, "spleen": float("nan")}, "CT")
    values, missing = np.split(found, 2)
    assert values[ORGANS.index("liver")] == 0.0
    assert values[ORGANS.index("aorta")] == 1.0
    assert [n for n, m in zip(ORGANS, missing, strict=True) if not m] == ["liver", "aorta"]


def test_mr_signal_is_measured_by_the_liver():
    organs = {"liver": 300.0, "aorta": 900.0, "spleen": 250.0}
    scaled = {k: 7.0 * v for k, v in organs.items()}
    np.testing.assert_allclose(organ_features(organs, "MR"), organ_features(scaled, "MR"))
    with pytest.raises(ValueError, match="liver"):
        organ_features({"aorta": 900.0}, "MR")


# ------------------------------------------------------------------ images


def test_a_flipped_or_turned_volume_gives_the_same_coarse_image():
    values = portal()
    expected = coarse_image(values, grid())
    flipped = coarse_image(values[::-1, ::-1].copy(), grid(signs=(-1, -1, 1)))
    np.testing.assert_allclose(flipped, expected, atol=1e-4)
    turned = grid(values.transpose(1, 0, 2).shape)
    affine = np.zeros((4, 4))
    z, y, x = PHANTOM.spacing_mm
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = y, z, x, 1.0
    sagittal = coarse_image(values.transpose(1, 0, 2), Grid(turned.shape, affine, "1"))
    np.testing.assert_allclose(sagittal, expected, atol=1e-4)


def test_thin_slices_are_averaged_to_the_coarse_voxels():
    thin = Phantom(shape=(60, 128, 128), spacing_mm=(2.0, 2.5, 2.5))
    coarse = coarse_image(image(thin, "portal_venous").astype(np.float32), grid(thin.shape, thin.spacing_mm))
    extent = np.array(thin.shape) * thin.spacing_mm
    assert coarse.shape == tuple(np.rint(extent / COARSE_MM).astype(int))
    assert float(coarse.std()) > 0


def test_the_scale_of_mr_signal_does_not_matter():
    values = image(PHANTOM, "t1_arterial").astype(np.float32)
    first, second = (image_features(v, grid(), "MR") for v in (values, 40.0 * values))
    assert first is not None
    assert first.shape == (IMAGE_FEATURES,)
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_contrast_is_seen_in_front_of_the_spine():
    native, arterial = (
        image_features(image(PHANTOM, p).astype(np.float32), grid(), "CT") for p in ("native", "arterial")
    )
    highest = 6  # the last quantile of the first region, before the spine: the aorta
    assert arterial[highest] > native[highest] + 40.0


@pytest.mark.parametrize("shape", [(8, 64, 64), (20, 20, 64), (20, 64, 30)])
def test_a_small_field_of_view_is_not_judged(shape):
    part = portal()[tuple(slice(0, n) for n in shape)]
    assert image_features(part, grid(shape), "CT") is None


def test_air_is_not_judged():
    assert image_features(np.full(PHANTOM.shape, -1000.0, np.float32), grid(), "CT") is None
