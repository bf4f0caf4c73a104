"""The same region measured by another program; see ``tests/golden/radiomics/make_mirp.py``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inference.imaging.radiomics import FEATURE_NAMES, FixedCount, FixedWidth, radiomics
from tests.golden.radiomics.volume import region

GOLDEN = Path(__file__).parents[2] / "golden" / "radiomics" / "mirp.json"
LEVELS = {"width": FixedWidth(-50, 200, 25), "count": FixedCount(32)}

SHAPE = """
volume volume, vol_approx voxel_volume, area_mesh surface_area, av surface_to_volume, comp_1 compactness_1,
comp_2 compactness_2, sph_dispr spherical_disproportion, sphericity sphericity, asphericity asphericity,
diam maximum_diameter, pca_maj_axis major_axis, pca_min_axis minor_axis, pca_least_axis least_axis,
pca_elongation elongation, pca_flatness flatness, vol_dens_aabb volume_density_box,
area_dens_aabb area_density_box, vol_dens_conv_hull volume_density_hull,
area_dens_conv_hull area_density_hull
"""
INTENSITY = """
mean mean, var variance, skew skewness, kurt kurtosis, median median, min minimum, p10 percentile_10,
p90 percentile_90, max maximum, iqr interquartile_range, range range, mad mean_absolute_deviation,
rmad robust_mean_absolute_deviation, medad median_absolute_deviation, cov coefficient_of_variation,
qcod quartile_dispersion, energy energy, rms root_mean_square
"""
NEIGHBOURS = """
joint_max joint_maximum, joint_avg joint_average, joint_var joint_variance, joint_entr joint_entropy,
diff_avg difference_average, diff_var difference_variance, diff_entr difference_entropy,
sum_avg sum_average, sum_var sum_variance, sum_entr sum_entropy, energy angular_second_moment,
contrast contrast, dissimilarity dissimilarity, inv_diff inverse_difference,
inv_diff_norm inverse_difference_normalised, inv_diff_mom inverse_difference_moment,
inv_diff_mom_norm inverse_difference_moment_normalised, inv_var inverse_variance, corr correlation,
auto_corr autocorrelation, clust_tend cluster_tendency, clust_shade cluster_shade,
clust_prom cluster_prominence, info_corr1 information_correlation_1, info_corr2 information_correlation_2
"""
# {s}, {l} and {z} stand for the letters of a matrix in that program.
EMPHASES = """
{s}{z}e small_{u}_emphasis, {l}{z}e large_{u}_emphasis, lg{z}e low_grey_level_{w}_emphasis,
hg{z}e high_grey_level_{w}_emphasis, {s}{z}lge small_{u}_low_grey_level_emphasis,
{s}{z}hge small_{u}_high_grey_level_emphasis, {l}{z}lge large_{u}_low_grey_level_emphasis,
{l}{z}hge large_{u}_high_grey_level_emphasis, glnu grey_level_non_uniformity,
glnu_norm grey_level_non_uniformity_normalised, {n}nu {u}_non_uniformity,
{n}nu_norm {u}_non_uniformity_normalised, {p}_perc {w}_percentage, gl_var grey_level_variance,
{n2}_var {u}_variance, {n2}_entr {u}_entropy
"""
TONES = (
    "coarseness coarseness, contrast contrast, busyness busyness, complexity complexity, strength strength"
)


def _pairs(text: str, theirs: str, ours: str) -> dict[str, str]:
    words = [pair.split() for pair in text.replace("\n", " ").split(",")]
    return {f"{ours}_{b}": f"{theirs}_{a}" for a, b in words}


def _names() -> dict[str, str]:
    runs = {"s": "s", "l": "l", "z": "r", "u": "run_length", "w": "run", "n": "rl", "p": "r", "n2": "rl"}
    sizes = {"s": "s", "l": "l", "z": "z", "u": "zone_size", "w": "zone", "n": "zs", "p": "z", "n2": "zs"}
    distances = sizes | {"u": "zone_distance", "n": "zd", "n2": "zd"}
    return {
        **_pairs(SHAPE, "morph", "shape"),
        "intensity_centre_of_mass_shift": "morph_com",
        **_pairs(INTENSITY, "stat", "intensity"),
        "histogram_entropy": "ih_entropy",
        "histogram_uniformity": "ih_uniformity",
        **_pairs(NEIGHBOURS, "cm", "glcm"),
        **_pairs(EMPHASES.format(**runs), "rlm", "glrlm"),
        **_pairs(EMPHASES.format(**sizes), "szm", "glszm"),
        **{
            ours: theirs.replace("_sz", "_sd").replace("_lz", "_ld")
            if theirs[4:6] in ("sz", "lz")
            else theirs
            for ours, theirs in _pairs(EMPHASES.format(**distances), "dzm", "gldzm").items()
        },
        **_pairs(TONES, "ngt", "ngtdm"),
    }


def _found(golden: dict[str, float], name: str) -> float:
    ends = ("", "_d1_3d_v_mrg", "_3d_v_mrg", "_3d")
    bins = ("", "_fbs_w25.0", "_fbn_n32")
    return next(golden[f"{name}{e}{b}"] for e in ends for b in bins if f"{name}{e}{b}" in golden)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_feature_agrees(levels: str) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[levels]
    values, mask = region()
    ours = radiomics(values, mask, (1.0, 1.0, 1.0), LEVELS[levels], grid_mm=None).as_dict()
    names = _names()
    assert set(names) == set(FEATURE_NAMES)
    mesh = {n for n in names if "surface" in n or "compact" in n or "spheri" in n or "density" in n}
    wrong = {}
    for name, theirs in names.items():
        # Other diagonals in the mesh: 0.6 % of the surface. Elsewhere that program has single precision.
        allowed = 2e-2 if name in mesh | {"shape_volume"} else 2e-5
        if ours[name] != pytest.approx(_found(golden, theirs), rel=allowed):
            wrong[name] = (ours[name], _found(golden, theirs))
    assert not wrong
    assert np.isfinite(list(ours.values())).all()
