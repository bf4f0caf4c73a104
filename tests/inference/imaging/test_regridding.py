"""A series on another grid, brought onto the primary's."""

from pathlib import Path

import numpy as np
import pytest

from inference.case import Phase
from inference.imaging.reading import read_case
from inference.imaging.regridding import overlap
from inference.models.seg_in_study import SegInStudy
from inference.results import Baseline
from inference.settings import SegmentationLimits
from inference.stages.load import load
from inference.stages.segment import segment
from inference.stages.selection import select
from tests.builders.studies import Phantom, SeriesSpec, image, slice_headers, write_seg, write_series

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))
THINNER = Phantom(shape=(40, 64, 64), spacing_mm=(3.0, 5.0, 5.0))


def study(folder: Path, arterial: Phantom, **spec) -> Path:
    portal = SeriesSpec(number=2)
    write_series(folder / "pv", portal, image(PHANTOM, "portal_venous"), PHANTOM.spacing_mm)
    other = SeriesSpec(phase="arterial", number=1, **spec)
    write_series(folder / "art", other, image(arterial, "arterial", noise=0.0), arterial.spacing_mm)
    write_seg(folder / "seg.dcm", slice_headers(portal, PHANTOM.shape, PHANTOM.spacing_mm), PHANTOM)
    return folder


def loaded(folder: Path) -> Baseline:
    return load(select(read_case(folder)))


def test_thinner_slices_are_interpolated_on_the_primary_grid_with_a_warning(tmp_path):
    # Slices of 6 mm cover the same space as pairs of 3 mm: their centres lie 1.5 mm lower and higher.
    baseline = loaded(study(tmp_path, THINNER, origin_mm=(-160.0, -160.0, -61.5)))
    arterial = baseline.phase(Phase.ARTERIAL)
    assert arterial.grid is baseline.primary.grid
    assert arterial.resampled.source_grid.shape == (40, 64, 64)
    assert arterial.resampled.covered.all()
    assert any("interpolated on the primary's grid" in w for w in baseline.warnings)
    masks = PHANTOM.masks
    inside = masks["liver"] & ~masks["tumour_1"] & ~masks["tumour_2"] & ~masks["portal_vein"]
    assert np.median(arterial.values()[inside]) == pytest.approx(70, abs=1)
    assert np.median(arterial.values()[masks["aorta"]]) == pytest.approx(290, abs=2)
    same = image(PHANTOM, "arterial", noise=0.0)
    assert np.mean(np.abs(arterial.values() - same) < 30) > 0.95


def test_headers_lie_where_the_primary_slices_lie_and_name_their_source(tmp_path):
    baseline = loaded(study(tmp_path, THINNER, origin_mm=(-160.0, -160.0, -61.5)))
    arterial, primary = baseline.phase(Phase.ARTERIAL), baseline.primary
    sources = {SeriesSpec(phase="arterial", number=1).sop_uid(k) for k in range(40)}
    assert len(arterial.headers) == len(arterial.slope) == 20
    for mine, theirs in zip(arterial.headers, primary.headers, strict=True):
        assert mine.ImagePositionPatient == theirs.ImagePositionPatient
        assert (mine.Rows, mine.SliceThickness) == (theirs.Rows, theirs.SliceThickness)
        assert mine.SOPInstanceUID in sources
        assert "SliceLocation" not in mine
    assert "arterial" in arterial.headers[0].SeriesDescription


def test_a_series_that_misses_a_part_of_the_liver_is_left_out_after_segmentation(tmp_path):
    short = Phantom(shape=(12, 64, 64), spacing_mm=(6.0, 5.0, 5.0))
    folder = study(tmp_path, short)
    case = read_case(folder)
    baseline = load(select(case))
    assert [v.phase for v in baseline.volumes] == [Phase.PORTAL_VENOUS, Phase.ARTERIAL]
    arterial = baseline.volumes[1]
    assert not arterial.resampled.covered[12:].any()
    assert arterial.values()[12:].max() == arterial.values().min()
    found = segment(case, baseline, SegInStudy(), SegmentationLimits()).baseline
    assert [v.phase for v in found.volumes] == [Phase.PORTAL_VENOUS]
    assert "% of the liver" in found.rejected[-1].reason


def test_a_series_elsewhere_or_in_another_space_is_left_out(tmp_path):
    far = loaded(study(tmp_path / "far", PHANTOM, origin_mm=(-160.0, -160.0, 400.0)))
    assert "lie elsewhere" in far.rejected[0].reason

    def other_space(_, ds):
        ds.FrameOfReferenceUID = "1.2.3"

    apart = loaded(study(tmp_path / "apart", PHANTOM, edit=other_space))
    assert "frame of reference" in apart.rejected[0].reason


def test_a_rotated_grid_keeps_places(tmp_path):
    """A series whose rows run from the patient's left to the right, as some archives have."""
    mirrored = image(PHANTOM, "arterial", noise=0.0)[:, :, ::-1]
    folder = study(tmp_path, PHANTOM)
    spec = SeriesSpec(
        phase="arterial", number=1, orientation=(-1, 0, 0, 0, 1, 0), origin_mm=(155.0, -160.0, -60.0)
    )
    for path in (folder / "art").iterdir():
        path.unlink()
    # Seen from the other side the slices go downwards along their normal; places stay places.
    write_series(folder / "art", spec, mirrored, PHANTOM.spacing_mm)
    baseline = loaded(folder)
    arterial = baseline.phase(Phase.ARTERIAL)
    assert np.array_equal(arterial.values(), image(PHANTOM, "arterial", noise=0.0))
    assert overlap(arterial.resampled.source_grid, baseline.primary.grid) == 1.0
