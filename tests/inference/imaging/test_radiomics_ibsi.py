"""The published reference values of the IBSI's digital phantom, and shapes whose measures are known.

Phantom and values: Image Biomarker Standardisation Initiative, reference manual, arXiv:1612.07003,
chapters 3 and 5 ("3D, merged"); Zwanenburg et al. 2020, Radiology 295:328.
"""

from __future__ import annotations

import numpy as np
import pytest

from inference.imaging.radiomics import (
    CT_LEVELS,
    FEATURE_NAMES,
    MR_LEVELS,
    FixedCount,
    FixedWidth,
    radiomics,
)

_ = np.nan
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [_, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, _, _], [1, 1, 1, 1, 1], [1, 1, _, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, _, _], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ],
    dtype=np.float32,
)

# Values as published, to three digits.
REFERENCE = """
shape_voxel_volume 592          shape_major_axis 11.4           shape_minor_axis 9.31
shape_least_axis 8.54           shape_elongation .816           shape_flatness .749
shape_maximum_diameter 13.1     intensity_centre_of_mass_shift .672
intensity_mean 2.15             intensity_variance 3.05         intensity_skewness 1.08
intensity_kurtosis -.355        intensity_median 1              intensity_minimum 1
intensity_percentile_10 1       intensity_percentile_90 4       intensity_maximum 6
intensity_interquartile_range 3 intensity_range 5               intensity_mean_absolute_deviation 1.55
intensity_robust_mean_absolute_deviation 1.11                   intensity_median_absolute_deviation 1.15
intensity_coefficient_of_variation .812                         intensity_quartile_dispersion .6
intensity_energy 567            intensity_root_mean_square 2.77
histogram_entropy 1.27          histogram_uniformity .512
glcm_joint_maximum .509         glcm_joint_average 2.15         glcm_joint_variance 3.13
glcm_joint_entropy 2.57         glcm_difference_average 1.38    glcm_difference_variance 3.21
glcm_difference_entropy 1.64    glcm_sum_average 4.3            glcm_sum_variance 7.41
glcm_sum_entropy 2.11           glcm_angular_second_moment .291 glcm_contrast 5.12
glcm_dissimilarity 1.38         glcm_inverse_difference .688    glcm_inverse_difference_normalised .856
glcm_inverse_difference_moment .631                             glcm_inverse_difference_moment_normalised .902
glcm_inverse_variance .0574     glcm_correlation .183           glcm_autocorrelation 5.19
glcm_cluster_tendency 7.41      glcm_cluster_shade 17.4         glcm_cluster_prominence 147
glcm_information_correlation_1 -.0288                           glcm_information_correlation_2 .269
glrlm_small_run_length_emphasis .729                            glrlm_large_run_length_emphasis 2.76
glrlm_low_grey_level_run_emphasis .607                          glrlm_high_grey_level_run_emphasis 9.64
glrlm_small_run_length_low_grey_level_emphasis .372
glrlm_small_run_length_high_grey_level_emphasis 8.67
glrlm_large_run_length_low_grey_level_emphasis 2.16
glrlm_large_run_length_high_grey_level_emphasis 15.6
glrlm_grey_level_non_uniformity 281        glrlm_grey_level_non_uniformity_normalised .43
glrlm_run_length_non_uniformity 328        glrlm_run_length_non_uniformity_normalised .501
glrlm_run_percentage .68        glrlm_grey_level_variance 3.48  glrlm_run_length_variance .598
glrlm_run_length_entropy 2.62
glszm_small_zone_size_emphasis .255                             glszm_large_zone_size_emphasis 550
glszm_low_grey_level_zone_emphasis .253                         glszm_high_grey_level_zone_emphasis 15.6
glszm_small_zone_size_low_grey_level_emphasis .0256
glszm_small_zone_size_high_grey_level_emphasis 2.76
glszm_large_zone_size_low_grey_level_emphasis 503
glszm_large_zone_size_high_grey_level_emphasis 1495
glszm_grey_level_non_uniformity 1.4                             glszm_grey_level_non_uniformity_normalised .28
glszm_zone_size_non_uniformity 1                                glszm_zone_size_non_uniformity_normalised .2
glszm_zone_percentage .0676     glszm_grey_level_variance 2.64  glszm_zone_size_variance 331
glszm_zone_size_entropy 2.32
gldzm_small_zone_distance_emphasis 1                            gldzm_large_zone_distance_emphasis 1
gldzm_low_grey_level_zone_emphasis .253                         gldzm_high_grey_level_zone_emphasis 15.6
gldzm_small_zone_distance_low_grey_level_emphasis .253
gldzm_small_zone_distance_high_grey_level_emphasis 15.6
gldzm_large_zone_distance_low_grey_level_emphasis .253
gldzm_large_zone_distance_high_grey_level_emphasis 15.6
gldzm_grey_level_non_uniformity 1.4        gldzm_grey_level_non_uniformity_normalised .28
gldzm_zone_distance_non_uniformity 5       gldzm_zone_distance_non_uniformity_normalised 1
gldzm_zone_percentage .0676     gldzm_grey_level_variance 2.64  gldzm_zone_distance_variance 0
gldzm_zone_distance_entropy 1.92
ngtdm_coarseness .0296          ngtdm_contrast .584             ngtdm_busyness 6.54
ngtdm_complexity 13.5           ngtdm_strength .763
"""
# These depend on how the mesh is drawn; the manual's mesh takes other diagonals.
MESH = """
shape_volume 556                shape_surface_area 388          shape_surface_to_volume .698
shape_compactness_1 .0411       shape_compactness_2 .599        shape_spherical_disproportion 1.19
shape_sphericity .843           shape_asphericity .186          shape_volume_density_box .869
shape_area_density_box .866     shape_volume_density_hull .961  shape_area_density_hull 1.03
"""


def _table(text: str) -> list[tuple[str, float]]:
    words = text.split()
    return [(name, float(value)) for name, value in zip(words[::2], words[1::2], strict=True)]


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    inside = np.isfinite(PHANTOM)
    return radiomics(PHANTOM, inside, (2.0, 2.0, 2.0), FixedWidth(1, 6, 1), grid_mm=None).as_dict()


def test_every_feature_has_a_published_value() -> None:
    assert {name for name, _value in _table(REFERENCE) + _table(MESH)} == set(FEATURE_NAMES)
    assert len(FEATURE_NAMES) == 118


def test_the_digital_phantom(measured: dict[str, float]) -> None:
    wrong = {
        name: (measured[name], value)
        for name, value in _table(REFERENCE)
        if measured[name] != pytest.approx(value, rel=4e-3, abs=1e-9)
    }
    assert not wrong


def test_the_mesh_of_the_digital_phantom(measured: dict[str, float]) -> None:
    wrong = {
        name: (measured[name], value)
        for name, value in _table(MESH)
        if measured[name] != pytest.approx(value, rel=1e-2, abs=4e-3 if name == "shape_asphericity" else 0.0)
    }
    assert not wrong


def test_levels_by_count_are_those_by_width_for_the_phantom(measured: dict[str, float]) -> None:
    by_count = radiomics(PHANTOM, np.isfinite(PHANTOM), (2.0, 2.0, 2.0), FixedCount(6), grid_mm=None)
    assert by_count.as_dict() == pytest.approx(measured)


def _ball(radius: float, spacing: tuple[float, float, float]) -> np.ndarray:
    n = [int(2 * (radius + 6) / s) | 1 for s in spacing]
    z, y, x = (s * (np.arange(k) - k // 2) for s, k in zip(spacing, n, strict=True))
    return np.asarray(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radius**2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_a_ball(spacing: tuple[float, float, float]) -> None:
    mask = _ball(15.0, spacing)
    found = radiomics(np.zeros(mask.shape, dtype=np.float32), mask, spacing, grid_mm=None).as_dict()
    volume = 4 / 3 * np.pi * 15.0**3
    assert found["shape_volume"] == pytest.approx(volume, rel=0.02)
    assert found["shape_voxel_volume"] == pytest.approx(volume, rel=0.02)
    # A mesh through the middles of edges overstates the surface of a ball by about 9 %.
    assert 1.0 < found["shape_surface_area"] / (4 * np.pi * 15.0**2) < 1.13
    assert found["shape_major_axis"] == pytest.approx(2 * 15.0 * np.sqrt(4 / 5), rel=0.02)
    # From surface to surface, half a voxel outside the outermost centres.
    assert 30.0 <= found["shape_maximum_diameter"] <= 30.0 + max(spacing)
    assert found["shape_flatness"] > 0.97


def test_a_box_of_flat_faces() -> None:
    mask = np.zeros((14, 24, 34), dtype=bool)
    mask[2:12, 2:22, 2:32] = True
    found = radiomics(mask.astype(np.float32), mask, (1.0, 2.0, 0.5), grid_mm=None).as_dict()
    assert found["shape_voxel_volume"] == pytest.approx(10 * 20 * 30)
    # Edges and corners are cut off by the mesh, half a voxel deep.
    assert found["shape_volume"] == pytest.approx(6000, rel=0.02)
    assert found["shape_surface_area"] == pytest.approx(2 * (10 * 40 + 10 * 15 + 40 * 15), rel=0.06)
    assert found["shape_volume_density_hull"] == pytest.approx(1.0, abs=1e-6)


def test_turning_the_volume_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(80, 40, (9, 9, 9)).astype(np.float32)
    mask = rng.random((9, 9, 9)) < 0.7
    upright = radiomics(values, mask, (1.0, 1.0, 1.0), grid_mm=None).as_dict()
    turned = radiomics(
        np.rot90(values, axes=(0, 2)).copy(), np.rot90(mask, axes=(0, 2)).copy(), (1, 1, 1), grid_mm=None
    )
    assert turned.as_dict() == pytest.approx(upright, rel=1e-6)


def test_a_finer_image_of_the_same_thing_measures_alike() -> None:
    mask = _ball(20.0, (1.0, 1.0, 1.0))
    z, y, x = np.indices(mask.shape)
    values = (60 + 30 * np.sin(z / 5) * np.cos(y / 6) * np.sin(x / 7)).astype(np.float32)
    fine = radiomics(values, mask, (1.0, 1.0, 1.0)).as_dict()
    coarse = radiomics(values[::2], mask[::2], (2.0, 1.0, 1.0)).as_dict()
    for name in (
        "shape_volume",
        "shape_sphericity",
        "intensity_mean",
        "glcm_joint_entropy",
        "glszm_zone_percentage",
    ):
        assert coarse[name] == pytest.approx(fine[name], rel=0.08), name


def test_what_is_not_there_is_missing_and_never_zero() -> None:
    values = np.full((6, 6, 6), 50.0, dtype=np.float32)
    nothing = radiomics(values, np.zeros((6, 6, 6), dtype=bool), (2.25, 2.25, 2.25))
    assert not nothing.present.any()
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[1:5, 1:5, 1:5] = True
    not_acquired = radiomics(np.full_like(values, np.nan), mask, (2.25, 2.25, 2.25))
    assert [n.startswith("shape_") for n in FEATURE_NAMES] == not_acquired.present.tolist()


def test_regions_of_one_voxel_and_of_one_grey_level() -> None:
    values = np.full((7, 7, 7), 50.0, dtype=np.float32)
    one = np.zeros((7, 7, 7), dtype=bool)
    one[3, 3, 3] = True
    assert radiomics(values, one, (2.25, 2.25, 2.25)).as_dict()["shape_voxel_volume"] == pytest.approx(
        2.25**3
    )
    mask = np.zeros((7, 7, 7), dtype=bool)
    mask[2:5, 2:5, 2:5] = True
    for levels in (CT_LEVELS, MR_LEVELS):
        flat = radiomics(values, mask, (2.25, 2.25, 2.25), levels).as_dict()
        assert flat["intensity_variance"] == 0.0
        assert flat["glszm_zone_percentage"] == pytest.approx(1 / 27)
        assert np.isnan(flat["glcm_correlation"])


def test_voxels_outside_the_range_do_not_count_for_intensities() -> None:
    values = np.full((7, 7, 7), 50.0, dtype=np.float32)
    values[3, 3, 3] = 3000.0
    mask = np.ones((7, 7, 7), dtype=bool)
    found = radiomics(values, mask, (2.25, 2.25, 2.25)).as_dict()
    assert found["intensity_maximum"] == 50.0
    assert found["shape_voxel_volume"] == pytest.approx(343 * 2.25**3)
