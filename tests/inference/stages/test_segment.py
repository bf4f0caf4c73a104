"""A segmentation in the study: found by codes, placed by positions, checked, and split into tissues."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.sr.coding import Code

from inference.case import Phase
from inference.errors import GeometryError, ImplausibleSegmentation, RejectedInput, SegmentationMissing
from inference.imaging.reading import read_case
from inference.models.seg_in_study import SegInStudy
from inference.provenance import MANUFACTURER
from inference.results import Tissue
from inference.settings import SegmentationLimits
from inference.stages.load import load
from inference.stages.segment import Segmented, segment
from inference.stages.selection import select
from tests.builders.studies import (
    ABNORMAL,
    ANATOMY,
    LIVER,
    NECROSIS,
    NEOPLASM,
    SPLEEN,
    WITH_VESSELS,
    Phantom,
    SegSpec,
    SeriesSpec,
    Sphere,
    image,
    slice_headers,
    uid,
    write_seg,
    write_series,
    write_study,
)

PHANTOM = Phantom(shape=(20, 64, 64), spacing_mm=(6.0, 5.0, 5.0))
LIMITS = SegmentationLimits()


def study(folder: Path, phases=("portal_venous",), phantom=PHANTOM, **kwargs) -> Path:
    return write_study(folder, phases, phantom=phantom, **kwargs)


def segmented(folder: Path, limits: SegmentationLimits = LIMITS) -> Segmented:
    case = read_case(folder)
    return segment(case, load(select(case)), SegInStudy(), limits)


def lesion_mask(result: Segmented, number: int):
    whole = np.zeros(result.baseline.primary.grid.shape, dtype=bool)
    whole[result.segmentation.labels.box.slices] = result.segmentation.labels.lesion == number
    return whole


def organ_mask(result: Segmented):
    whole = np.zeros(result.baseline.primary.grid.shape, dtype=bool)
    whole[result.segmentation.labels.box.slices] = result.segmentation.labels.tissue > 0
    return whole


def spec_of(folder: Path, phase: str = "portal_venous", number: int = 1) -> SeriesSpec:
    return SeriesSpec(phase=phase, study=folder.name, number=number)


# ------------------------------------------------------------------ outlines


def test_the_masks_are_those_that_were_drawn(tmp_path):
    result = segmented(study(tmp_path / "s"))
    masks = PHANTOM.masks
    assert np.array_equal(lesion_mask(result, 1), masks["tumour_1"])
    assert np.array_equal(lesion_mask(result, 2), masks["tumour_2"])
    assert np.array_equal(organ_mask(result), masks["liver"] | masks["tumour_1"] | masks["tumour_2"])
    lesions = result.segmentation.lesions
    assert [(x.number, x.lesion_id, x.tracking_uid) for x in lesions] == [
        (1, "L1", uid(uid("s"), "seg", "tracking", "tumour_1")),
        (2, "L2", uid(uid("s"), "seg", "tracking", "tumour_2")),
    ]
    assert result.segmentation.source_sop_instance_uid == uid(uid("s"), "seg")


def test_lesions_are_numbered_by_volume_not_by_segment(tmp_path):
    spec = SegSpec(segments=(SegSpec().segments[0], SegSpec().segments[2], SegSpec().segments[1]))
    result = segmented(study(tmp_path / "s", seg=spec))
    assert np.array_equal(lesion_mask(result, 1), PHANTOM.masks["tumour_1"])


def test_one_segment_of_all_tumours_is_cut_into_its_parts(tmp_path):
    both = PHANTOM.masks["tumour_1"] | PHANTOM.masks["tumour_2"]
    spec = SegSpec(segments=(("liver", ANATOMY, LIVER), ("all", ABNORMAL, NEOPLASM)), masks={"all": both})
    result = segmented(study(tmp_path / "s", seg=spec))
    assert np.array_equal(lesion_mask(result, 1), PHANTOM.masks["tumour_1"])
    assert np.array_equal(lesion_mask(result, 2), PHANTOM.masks["tumour_2"])
    assert [x.tracking_uid for x in result.segmentation.lesions] == [None, None]


def test_a_liver_without_its_tumours_is_filled(tmp_path):
    masks = PHANTOM.masks
    hollow = masks["liver"] & ~masks["tumour_1"] & ~masks["tumour_2"]
    result = segmented(study(tmp_path / "s", seg=SegSpec(masks={"liver": hollow})))
    assert np.array_equal(organ_mask(result), masks["liver"] | masks["tumour_1"] | masks["tumour_2"])


def test_a_segmentation_is_placed_by_position_on_slices_stored_in_any_order(tmp_path):
    """The SEG lists its frames from the top down, the files come from the bottom up."""
    folder = study(tmp_path / "s", seg=None)
    headers = slice_headers(spec_of(folder), PHANTOM.shape, PHANTOM.spacing_mm)
    flipped = {name: mask[::-1] for name, mask in PHANTOM.masks.items()}
    write_seg(folder / "seg.dcm", headers[::-1], PHANTOM, SegSpec(masks=flipped))
    assert np.array_equal(lesion_mask(segmented(folder), 1), PHANTOM.masks["tumour_1"])


def without_frame_of_reference(_: int, ds: pydicom.Dataset) -> None:
    del ds.FrameOfReferenceUID


def test_images_without_a_frame_of_reference_take_that_of_the_segmentation(tmp_path):
    folder = study(tmp_path / "s")
    spec = replace(spec_of(folder), edit=without_frame_of_reference)
    write_series(folder / "portal_venous", spec, image(PHANTOM, "portal_venous"), PHANTOM.spacing_mm)
    result = segmented(folder)
    assert result.baseline.primary.grid.frame_of_reference_uid == uid("s", "frame of reference")
    assert np.array_equal(lesion_mask(result, 1), PHANTOM.masks["tumour_1"])


def test_frames_over_a_part_of_the_field_of_view_are_placed(tmp_path):
    """A SEG of 40 x 50 pixels that begins at row 10 and column 8."""
    folder = study(tmp_path / "s", seg=None)
    shape = (20, 40, 50)
    crop = (slice(None), slice(10, 50), slice(8, 58))
    origin = (-160.0 + 8 * 5, -160.0 + 10 * 5, -60.0)
    headers = slice_headers(replace(spec_of(folder), origin_mm=origin), shape, PHANTOM.spacing_mm)
    masks = {name: mask[crop] for name, mask in PHANTOM.masks.items()}
    write_seg(folder / "seg.dcm", headers, replace(PHANTOM, shape=shape), SegSpec(masks=masks))
    assert np.array_equal(lesion_mask(segmented(folder), 1), PHANTOM.masks["tumour_1"])


def test_a_segmentation_on_another_grid_is_refused(tmp_path):
    folder = study(tmp_path / "s", seg=None)
    other = replace(spec_of(folder), origin_mm=(-158.0, -160.0, -60.0))
    write_seg(folder / "seg.dcm", slice_headers(other, PHANTOM.shape, PHANTOM.spacing_mm), PHANTOM)
    with pytest.raises(GeometryError, match="another grid"):
        segmented(folder)


def test_a_segmentation_beyond_the_images_is_refused(tmp_path):
    folder = study(tmp_path / "s", seg=None)
    other = replace(spec_of(folder), origin_mm=(-160.0, -160.0, -60.0 + 6 * 14))
    write_seg(folder / "seg.dcm", slice_headers(other, PHANTOM.shape, PHANTOM.spacing_mm), PHANTOM)
    with pytest.raises(GeometryError, match="above or below"):
        segmented(folder)


def test_a_segmentation_of_another_space_is_refused(tmp_path):
    folder = study(tmp_path / "s", seg=None)
    headers = slice_headers(spec_of(folder), PHANTOM.shape, PHANTOM.spacing_mm)
    for header in headers:
        header.SeriesInstanceUID = "1.2.3"
        header.FrameOfReferenceUID = "1.2.4"
    write_seg(folder / "seg.dcm", headers, PHANTOM)
    with pytest.raises(GeometryError, match="another frame of reference"):
        segmented(folder)


def test_frames_without_a_position_are_placed_by_their_source_images(tmp_path):
    def strip(seg: hd.seg.Segmentation) -> None:
        for groups in seg.PerFrameFunctionalGroupsSequence:
            del groups.PlanePositionSequence

    folder = study(tmp_path / "s", seg=SegSpec(edit=strip))
    assert np.array_equal(lesion_mask(segmented(folder), 1), PHANTOM.masks["tumour_1"])


# ------------------------------------------------------------------ what is missing


def test_no_segmentation_is_refused_before_pixels_are_read(tmp_path):
    case = read_case(study(tmp_path / "s", seg=None))
    with pytest.raises(SegmentationMissing, match="no liver segmentation in the study"):
        SegInStudy().check(case)


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ((("liver", ANATOMY, SPLEEN),), "no segment is coded as liver"),
        ((("liver", ANATOMY, LIVER),), "no segment coded as tumour"),
    ],
)
def test_a_segmentation_without_liver_or_tumour_is_refused(tmp_path, segments, reason):
    case = read_case(study(tmp_path / "s", seg=SegSpec(segments=segments)))
    with pytest.raises(SegmentationMissing, match=reason):
        SegInStudy().check(case)


def test_a_segmentation_made_here_is_not_input_and_an_edited_one_is(tmp_path):
    folder = study(tmp_path / "s", seg=SegSpec(manufacturer=MANUFACTURER))
    case = read_case(folder)
    with pytest.raises(SegmentationMissing):
        SegInStudy().check(case)
    headers = slice_headers(spec_of(folder), PHANTOM.shape, PHANTOM.spacing_mm)
    write_seg(folder / "edited.dcm", headers, PHANTOM, SegSpec(name="edited", manufacturer="Viewer"))
    assert segmented(folder).segmentation.source_sop_instance_uid == uid(uid("s"), "edited")


def test_real_first_slices_have_no_liver_segmentation(needs_data):
    for path in sorted(needs_data("hcc_tace_seg/first_slices").iterdir()):
        with pytest.raises(SegmentationMissing, match="no liver segmentation in the study"):
            SegInStudy().check(read_case(path))


# ------------------------------------------------------------------ plausibility


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (SegmentationLimits(refuse_below_ml=2000), "has only"),
        (SegmentationLimits(refuse_above_ml=100), r"limit 100 ml"),
    ],
)
def test_an_impossible_volume_is_refused(tmp_path, limits, reason):
    with pytest.raises(ImplausibleSegmentation, match=reason):
        segmented(study(tmp_path / "s"), limits)


def test_an_unusual_volume_is_a_warning(tmp_path):
    result = segmented(study(tmp_path / "s"), SegmentationLimits(review_below_ml=1500))
    assert any("unusual volume" in w for w in result.segmentation.warnings)


def test_a_liver_in_pieces(tmp_path):
    liver = PHANTOM.masks["liver"].copy()
    liver[9:11] = False
    seg = SegSpec(masks={"liver": liver, "tumour_1": PHANTOM.sphere(Sphere((30, 150, 125), 8)),
                         "tumour_2": PHANTOM.sphere(Sphere((90, 150, 125), 8))})  # fmt: skip
    folder = study(tmp_path / "s", seg=seg)
    assert any("in pieces" in w for w in segmented(folder).segmentation.warnings)
    with pytest.raises(ImplausibleSegmentation, match="in pieces"):
        segmented(folder, SegmentationLimits(refuse_largest_component_below=0.9))


def test_an_outline_that_is_no_liver_tissue_is_refused(tmp_path):
    folder = study(tmp_path / "s", seg=None)
    headers = slice_headers(spec_of(folder), PHANTOM.shape, PHANTOM.spacing_mm)
    mirrored = {name: np.roll(mask, 22, axis=1) for name, mask in PHANTOM.masks.items()}
    write_seg(folder / "seg.dcm", headers, PHANTOM, SegSpec(masks=mirrored))
    with pytest.raises(ImplausibleSegmentation, match="HU"):
        segmented(folder)


def test_a_tumour_far_from_the_liver_is_not_used(tmp_path):
    away = PHANTOM.sphere(Sphere((60, 215, 240), 15))
    result = segmented(study(tmp_path / "s", seg=SegSpec(masks={"tumour_2": away})))
    assert [x.lesion_id for x in result.segmentation.lesions] == ["L1"]
    assert any("outside the liver" in w for w in result.segmentation.warnings)
    only = SegSpec(segments=SegSpec().segments[:2], masks={"tumour_1": away})
    with pytest.raises(ImplausibleSegmentation, match="outside"):
        segmented(study(tmp_path / "t", seg=only))


def test_empty_segments_are_refused(tmp_path):
    nothing = np.zeros(PHANTOM.shape, dtype=bool)
    with pytest.raises(RejectedInput, match="liver segment is empty"):
        segmented(study(tmp_path / "s", seg=SegSpec(masks={"liver": nothing})))
    empty = SegSpec(masks={"tumour_1": nothing, "tumour_2": nothing})
    with pytest.raises(RejectedInput, match="tumour segments are empty"):
        segmented(study(tmp_path / "t", seg=empty))


# ------------------------------------------------------------------ tissues and phases

FINE = Phantom(tumours=(Sphere((60.0, 150.0, 110.0), 24.0, core_mm=12.0),))
ONE_TUMOUR = SegSpec(segments=SegSpec().segments[:2])
fine_study = partial(study, phantom=FINE)


@pytest.mark.parametrize("phases", [("arterial", "portal_venous"), ("portal_venous",)])
def test_necrosis_is_found_where_it_is(tmp_path, phases):
    result = segmented(fine_study(tmp_path / "s", phases, seg=ONE_TUMOUR))
    labels = result.segmentation.labels
    found = labels.tissue == Tissue.NECROSIS
    core = FINE.masks["necrosis"][labels.box.slices]
    dice = 2 * (found & core).sum() / (found.sum() + core.sum())
    assert dice > 0.85  # the portal venous limit lies below the middle between necrosis and tumour
    estimate = any("estimate" in w for w in result.segmentation.warnings)
    assert estimate == ("arterial" not in phases)


def test_without_enhancement_all_tumour_counts_as_viable(tmp_path):
    result = segmented(fine_study(tmp_path / "s", ("native",), seg=ONE_TUMOUR))
    assert not (result.segmentation.labels.tissue == Tissue.NECROSIS).any()
    assert any("cannot be told apart" in w for w in result.segmentation.warnings)


def test_necrosis_that_was_drawn_is_kept_and_belongs_to_its_lesion(tmp_path):
    masks = FINE.masks
    seg = SegSpec(
        segments=(*ONE_TUMOUR.segments, ("necrosis", ABNORMAL, NECROSIS)),
        masks={"tumour_1": masks["tumour_1"] & ~masks["necrosis"]},
    )
    result = segmented(fine_study(tmp_path / "s", ("native",), seg=seg))
    labels = result.segmentation.labels
    assert np.array_equal(lesion_mask(result, 1), masks["tumour_1"])
    assert np.array_equal(labels.tissue == Tissue.NECROSIS, masks["necrosis"][labels.box.slices])


def test_tissues_of_an_edited_segmentation_of_this_product_are_kept(tmp_path):
    """Liver, viable tumour, necrosis and lipiodol without overlap, as reporting writes them."""
    masks = FINE.masks
    oil = masks["tumour_1"] & ~masks["necrosis"] & (np.arange(128) < 42)
    viable = masks["tumour_1"] & ~masks["necrosis"] & ~oil
    seg = SegSpec(
        segments=(
            ("liver", ANATOMY, LIVER),
            ("viable", ABNORMAL, Code("109841003", "SCT", "Liver cell carcinoma")),
            ("necrosis", ABNORMAL, NECROSIS),
            ("oil", ABNORMAL, Code("HC102", "99HEPATOCAST", "Retained iodized oil")),
        ),
        masks={"liver": masks["liver"] & ~masks["tumour_1"], "viable": viable, "oil": oil},
    )
    result = segmented(fine_study(tmp_path / "s", ("portal_venous",), seg=seg))
    labels = result.segmentation.labels
    drawn = {Tissue.VIABLE: viable, Tissue.NECROSIS: masks["necrosis"], Tissue.LIPIODOL: oil}
    for tissue, mask in drawn.items():
        assert mask.any()
        assert np.array_equal(labels.tissue == tissue, mask[labels.box.slices])
    assert np.array_equal(lesion_mask(result, 1), masks["tumour_1"])
    assert len(result.segmentation.lesions) == 1


def test_several_tumour_segments_share_drawn_necrosis_by_touch(tmp_path):
    masks = PHANTOM.masks
    core = PHANTOM.sphere(PHANTOM.tumours[0], 12.0)
    seg = SegSpec(
        segments=(*SegSpec().segments, ("necrosis", ABNORMAL, NECROSIS)),
        masks={"tumour_1": masks["tumour_1"] & ~core, "necrosis": core},
    )
    result = segmented(study(tmp_path / "s", seg=seg))
    assert np.array_equal(lesion_mask(result, 1), masks["tumour_1"])
    assert np.array_equal(lesion_mask(result, 2), masks["tumour_2"])


def anonymous(_: int, ds: pydicom.Dataset) -> None:
    ds.SeriesDescription = "Abd 3.0"


@pytest.mark.parametrize("phase", ["native", "arterial", "portal_venous", "delayed"])
def test_the_phase_is_concluded_from_vessels(tmp_path, phase):
    folder = study(tmp_path / "s", (phase,), seg=WITH_VESSELS)
    spec = replace(spec_of(folder, phase), edit=anonymous)
    write_series(folder / phase, spec, image(PHANTOM, phase), PHANTOM.spacing_mm)
    primary = segmented(folder).baseline.primary
    assert primary.phase is Phase(phase)
    assert "aorta" in primary.phase_evidence


def test_two_series_concluded_to_show_one_phase_are_not_both_used(tmp_path):
    folder = study(tmp_path / "s", ("portal_venous",), seg=WITH_VESSELS)
    for number, name in ((1, "portal_venous"), (2, "again")):
        spec = SeriesSpec(study="s", name=name, number=number, edit=anonymous)
        write_series(folder / name, spec, image(PHANTOM, "portal_venous"), PHANTOM.spacing_mm)
    for path in (folder / "portal_venous").glob("*.dcm"):
        ds = pydicom.dcmread(path)
        ds.SeriesInstanceUID = spec_of(folder).series_uid
        ds.save_as(path)
    result = segmented(folder)
    assert [v.phase for v in result.baseline.volumes] == [Phase.PORTAL_VENOUS]
    assert "same phase" in result.baseline.rejected[0].reason


def test_mr(tmp_path):
    phases = ("t1_portal_venous", "t1_arterial")
    folder = write_study(tmp_path / "s", phases, "MR", FINE, ONE_TUMOUR)
    result = segmented(folder)
    assert [v.phase for v in result.baseline.volumes] == [Phase.T1_ARTERIAL, Phase.T1_PORTAL_VENOUS]
    labels = result.segmentation.labels
    core = FINE.masks["necrosis"][labels.box.slices]
    found = labels.tissue == Tissue.NECROSIS
    assert 2 * (found & core).sum() / (found.sum() + core.sum()) > 0.9


# ------------------------------------------------------------------ real


segmented_once = cache(segmented)


@pytest.fixture
def real(needs_data) -> Segmented:
    return segmented_once(needs_data("ircad17"))


def test_real_volumes_are_those_of_the_masks(real):
    ml = real.baseline.primary.grid.voxel_ml
    volumes = [lesion_mask(real, n).sum() * ml for n in (1, 2)]
    assert volumes == pytest.approx([85.6, 78.6], abs=0.1)
    assert organ_mask(real).sum() * ml == pytest.approx(1860, abs=2)
    assert [x.tracking_uid for x in real.segmentation.lesions] == ["2.25.1700001", "2.25.1700002"]


def test_real_phase_is_portal_venous_by_hu(real):
    primary = real.baseline.primary
    assert primary.phase is Phase.PORTAL_VENOUS
    assert "No attribute names the phase" in primary.phase_evidence
    assert "less certain" in primary.phase_evidence


def test_real_segmentation_says_what_is_uncertain(real):
    text = " ".join(real.segmentation.warnings)
    assert "estimate" in text
    assert "edge of the images" in text


def test_a_real_mask_turned_upside_down_is_refused(needs_data, tmp_path):
    """A flip in y puts the outline over lung and spine; HU show it."""
    source = needs_data("ircad17/seg.dcm")
    seg = pydicom.dcmread(source)
    frames = seg.pixel_array[:, ::-1]
    seg.PixelData = pydicom.pixels.pack_bits(frames.ravel())
    for path in needs_data("ircad17/ct").iterdir():
        (tmp_path / path.name).symlink_to(path)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(ImplausibleSegmentation):
        segmented(tmp_path)
