"""Tumours implanted into a real liver: what changes, where, and how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from inference.case import Phase
from inference.errors import InferenceError, TrainingDataError
from inference.evaluation.segmentation_cases import case_folders
from inference.randomness import RandomStreams
from inference.results import Box
from inference.simulation.disease import TumourState
from inference.simulation.implanted import ImplantedSeries, acquire_implanted, liver_tissue, vessels
from inference.simulation.patient import TYPICAL
from inference.simulation.site_anatomies import AnatomySource, SiteAnatomy, list_studies, read_anatomy
from inference.training.cohort import CROP, NO_VALUE
from tests.builders.site_anatomies import (
    OWN,
    a_scan,
    small_liver,
    without_liver,
    write_dicom_study,
    write_table,
    write_volume,
    write_volume_study,
)
from tests.builders.site_archive import Tumour

PORTAL = 1
NOISE_HU = 7.0


def read_all(source: AnatomySource) -> Mapping[str, SiteAnatomy | str]:
    found: dict[str, SiteAnatomy | str] = {}
    for name, files in list_studies(source):
        try:
            found[name] = read_anatomy(files, source)
        except InferenceError as error:
            found[name] = str(error)
    return found


def only(source: AnatomySource) -> SiteAnatomy:
    (found,) = read_all(source).values()
    assert isinstance(found, SiteAnatomy), found
    return found


@pytest.fixture(scope="module")
def two_phases(tmp_path_factory: pytest.TempPathFactory) -> SiteAnatomy:
    """A study of two phases with a tumour of its own."""
    folder = tmp_path_factory.mktemp("table")
    write_table(folder, {"one": a_scan(own=OWN)})
    return only(AnatomySource(folder))


def ball(liver: np.ndarray, radius: float, necrosis: float = 0.0) -> TumourState:
    """Return one tumour in the deepest place of a liver, on all of the grid."""
    depth = ndimage.distance_transform_edt(liver > 250)
    centre = np.unravel_index(int(depth.argmax()), CROP)
    axes = np.ogrid[tuple(slice(0, n) for n in CROP)]
    distance = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    share = np.clip(0.5 + radius - distance, 0.0, 1.0).astype(np.float32) * (liver / np.float32(255))
    zeros = np.zeros(CROP, np.float32)
    return TumourState(
        months=0.0,
        box=Box((0, 0, 0), CROP),
        viable=share * np.float32(1.0 - necrosis),
        necrosis=share * np.float32(necrosis),
        lipiodol=zeros,
        vascularity=np.ones(CROP, np.float32),
        thrombus=zeros,
        lesion=(share > 0.5).astype(np.uint8),
    )


@pytest.fixture(scope="module")
def series(two_phases: SiteAnatomy) -> ImplantedSeries:
    return acquire_implanted(two_phases, 3, TYPICAL, RandomStreams(5))


# ------------------------------------------------------------------ a study on the crop's grid


def test_a_study_keeps_its_values_and_volume(two_phases: SiteAnatomy) -> None:
    found = a_scan(own=OWN)
    assert two_phases.phases == (Phase.ARTERIAL, Phase.PORTAL_VENOUS)
    inside = two_phases.liver == 255
    assert np.median(two_phases.images[PORTAL][inside]) == pytest.approx(110.0, abs=2.0)
    assert np.median(two_phases.images[0][inside]) == pytest.approx(68.0, abs=2.0)
    voxel_ml = float(np.prod((4.0, 2.7, 2.7))) / 1000.0
    own_ml = float((found.tumour > 0).sum()) * voxel_ml
    liver_ml = float((found.liver | (found.tumour > 0)).sum()) * voxel_ml
    margin_ml = 4.0 / 3.0 * np.pi * (23.0**3 - 20.0**3) / 1000.0
    held = two_phases.liver.sum() / 255.0 * 2.25**3 / 1000.0
    assert held == pytest.approx(liver_ml - own_ml - margin_ml, rel=0.03)


@pytest.mark.slow
def test_dicom_and_volume_files_are_the_same_liver(tmp_path: Path, two_phases: SiteAnatomy) -> None:
    write_dicom_study(tmp_path / "study", a_scan(own=OWN), "SECRET-1")
    found = only(AnatomySource(tmp_path))
    assert found.phases == two_phases.phases
    assert np.abs(found.liver.astype(int) - two_phases.liver).max() <= 1
    both = (found.images != NO_VALUE) & (two_phases.images != NO_VALUE)
    assert np.abs(found.images.astype(int) - two_phases.images)[both].max() <= 1


def test_a_segmentation_object_may_have_a_liver_alone(tmp_path: Path) -> None:
    write_dicom_study(tmp_path / "study", a_scan(phases=("portal_venous",)), "SECRET-2")
    found = only(AnatomySource(tmp_path))
    assert found.phases == (Phase.PORTAL_VENOUS,)
    assert (found.images[0] == NO_VALUE).all()


def test_a_prepared_study_is_kept_and_a_changed_one_refused(tmp_path: Path, two_phases: SiteAnatomy) -> None:
    path = two_phases.save(tmp_path)
    again = SiteAnatomy.load(tmp_path, two_phases.digest)
    assert again.digest == two_phases.digest
    assert again.spacing_mm == pytest.approx((4.0, 2.7, 2.7))
    liver = again.liver.copy()
    liver[0, 0, 0] ^= 1
    np.savez(path, images=again.images, liver=liver, spacing_mm=np.array(again.spacing_mm))
    with pytest.raises(TrainingDataError, match="was changed"):
        SiteAnatomy.load(tmp_path, two_phases.digest)


def test_each_bad_study_has_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    good = a_scan(phases=("portal_venous",))
    write_volume_study(tmp_path / "good", good)
    write_volume_study(tmp_path / "empty", without_liver(good))
    write_volume_study(tmp_path / "small", small_liver(good))
    write_volume(good.volumes["portal_venous"], tmp_path / "bare" / "image.nii.gz")
    write_volume_study(tmp_path / "full", a_scan(own=(Tumour((-25.0, 5.0, 0.0), 55.0),)))
    write_volume(good.volumes["portal_venous"] + np.int16(1024), tmp_path / "raw" / "image.nii.gz")
    write_volume(good.liver.astype(np.uint8), tmp_path / "raw" / "label.nii.gz")
    names = {said: folder.name for said, folder in case_folders(tmp_path)}
    read = read_all(AnatomySource(tmp_path, phase=Phase.PORTAL_VENOUS))
    found = {names[said]: one for said, one in read.items()}
    assert isinstance(found.pop("good"), SiteAnatomy)
    wanted = {
        "empty": "mask is empty",
        "small": "liver is too small",
        "bare": "no liver mask",
        "full": "its own tumours hold",
        "raw": "not HU of a liver",
    }
    assert set(found) == set(wanted)
    for name, words in wanted.items():
        assert words in str(found[name])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,i.nii.gz,l.nii.gz,CT,", "contrast phase is not known"),
        ("a,i.nii.gz,l.nii.gz,CT,hepatobiliary", "none that is known"),
        ("a,i.nii.gz,l.nii.gz,CT,native", "neither an arterial nor portal venous phase"),
        ("a,i.nii.gz,l.nii.gz,MR,portal_venous", "into CT only"),
        ("a,i.nii.gz,l.nii.gz,CT,arterial\na,i.nii.gz,l.nii.gz,CT,arterial", "two images"),
    ],
)
def test_a_table_that_does_not_tell_the_phase(tmp_path: Path, row: str, reason: str) -> None:
    found = a_scan(phases=("portal_venous",))
    write_volume(found.volumes["portal_venous"], tmp_path / "i.nii.gz")
    write_volume(found.liver.astype(np.uint8), tmp_path / "l.nii.gz")
    (tmp_path / "cases.csv").write_text(f"case,image,label,modality,phase\n{row}\n", encoding="utf-8")
    assert reason in str(read_all(AnatomySource(tmp_path))["a"])


# ------------------------------------------------------------------ tissue and noise


def test_a_liver_is_parted_into_tissue_and_noise() -> None:
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:96, :96, :96]
    liver = ((z - 48) ** 2 + (y - 48) ** 2 + (x - 48) ** 2 < 40**2).astype(np.float32)
    vein = ((y - 40) ** 2 + (x - 48) ** 2 < 3**2) & (liver > 0)
    slope = 100.0 + 0.2 * (z - 48.0) + np.zeros((96, 96, 96))
    image = np.where(liver > 0, slope, -100.0) + np.where(vein, 55.0, 0.0)
    image = (image + rng.normal(0.0, 9.0, image.shape)).astype(np.float32)
    image[:, :, :12] = np.nan
    found = liver_tissue(image, liver)
    plain = (ndimage.binary_erosion(liver > 0, iterations=3)) & ~ndimage.binary_dilation(vein, iterations=4)
    assert found.noise == pytest.approx(9.0, rel=0.12)
    assert np.isfinite(found.tissue).all()
    assert np.abs(found.parenchyma[plain] - slope[plain]).mean() < 2.0
    assert (image - found.tissue)[plain].std() == pytest.approx(9.0, rel=0.15)
    # At the border the tissue is liver, not the fat beside it.
    edge = (liver > 0) & ~ndimage.binary_erosion(liver > 0)
    half = liver_tissue(image, np.where(edge, np.float32(0.5), liver))
    assert half.tissue[edge].min() > 70.0
    share = vessels(image, liver, found)
    assert share[vein].mean() > 0.5
    assert share[plain].mean() < 0.02


# ------------------------------------------------------------------ tumours


def test_nothing_changes_but_where_a_tumour_is(series: ImplantedSeries, two_phases: SiteAnatomy) -> None:
    state = ball(two_phases.liver, 9.0)
    images, clean = series.baseline(state, TYPICAL)
    assert clean is None
    changed = images != two_phases.images
    # Beyond the tumour there is the point spread, which ends after three voxels.
    near = ndimage.binary_dilation(state.viable > 0, iterations=6)
    assert not changed[:, ~near].any()
    assert not changed[:, two_phases.liver == 0].any()
    assert changed[:, state.viable > 0.9].mean() > 0.8


def test_a_tumour_differs_from_the_liver_round_it_and_has_its_texture(
    series: ImplantedSeries, two_phases: SiteAnatomy
) -> None:
    state = ball(two_phases.liver, 10.0)
    images = series.follow_up(state, TYPICAL)
    inside = ndimage.binary_erosion(state.viable > 0.99, iterations=3)
    change = images[PORTAL].astype(float) - two_phases.images[PORTAL]
    parenchyma = series.backgrounds[Phase.PORTAL_VENOUS].parenchyma
    assert parenchyma is not None
    seen = images[PORTAL][inside] - parenchyma[inside]
    enhancement = series.protocols[Phase.PORTAL_VENOUS].enhancement
    assert seen.mean() == pytest.approx(TYPICAL.portal_contrast_hu * enhancement, abs=6.0)
    arterial = images[0][inside] - series.backgrounds[Phase.ARTERIAL].parenchyma[inside]
    assert arterial.mean() > 25.0
    assert np.abs(change[inside]).max() < 120.0
    high = images[PORTAL] - ndimage.gaussian_filter(images[PORTAL].astype(float), 1.0)
    before = two_phases.images[PORTAL] - ndimage.gaussian_filter(two_phases.images[PORTAL].astype(float), 1.0)
    assert high[inside].std() == pytest.approx(before[inside].std(), rel=0.4)


def test_dead_tumour_is_dark_whatever_lay_there(series: ImplantedSeries, two_phases: SiteAnatomy) -> None:
    state = ball(two_phases.liver, 10.0, necrosis=1.0)
    images = series.follow_up(state, TYPICAL)
    inside = ndimage.binary_erosion(state.necrosis > 0.99, iterations=3)
    assert np.median(images[PORTAL][inside]) == pytest.approx(27.0, abs=8.0)


def test_two_states_share_their_noise(series: ImplantedSeries, two_phases: SiteAnatomy) -> None:
    first = series.follow_up(ball(two_phases.liver, 10.0), TYPICAL)
    later = series.follow_up(ball(two_phases.liver, 6.0), TYPICAL)
    both = ndimage.binary_erosion(ball(two_phases.liver, 6.0).viable > 0.99, iterations=3)
    assert (first[PORTAL][both].astype(int) - later[PORTAL][both]).std() < 1.0


def test_the_border_of_a_lesion_of_the_study_is_no_capsule(
    series: ImplantedSeries, two_phases: SiteAnatomy
) -> None:
    full = (two_phases.liver / np.float32(255)).astype(np.float32)
    everywhere = ball(two_phases.liver, 200.0)
    images = series.follow_up(everywhere, TYPICAL)
    mask = full > 0.99
    border = mask & ~ndimage.binary_erosion(mask, iterations=2)
    deep = ndimage.binary_erosion(mask, iterations=5)
    change = images[PORTAL].astype(float) - series.backgrounds[Phase.PORTAL_VENOUS].parenchyma
    # A full capsule would be 15 HU brighter.
    assert np.median(change[border]) - np.median(change[deep]) < 5.0


def test_a_study_of_one_phase_gives_a_patient_of_one_phase(tmp_path: Path) -> None:
    write_volume_study(tmp_path / "one", a_scan(phases=("arterial",)), "arterial")
    site = only(AnatomySource(tmp_path, phase=Phase.ARTERIAL))
    series = acquire_implanted(site, 0, TYPICAL, RandomStreams(1))
    images = series.follow_up(ball(site.liver, 8.0), TYPICAL)
    assert (images[PORTAL] == NO_VALUE).all()
    assert (images[0] != site.images[0]).any()
    assert not series.anatomy.portal.any()
