from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from inference.case import Case, Instance, Phase, Series
from inference.imaging.reading import read_case
from inference.stages.selection import select
from tests.builders.studies import SeriesSpec, slice_headers, uid, write_study

SHAPE, SPACING = (20, 8, 8), (3.0, 2.0, 2.0)


def series(
    name: str, *, change: Callable[[Dataset], None] | None = None, shape=SHAPE, spacing=SPACING, **spec
) -> Series:
    spec = SeriesSpec(name=name, **{"description": name, **spec})
    headers = slice_headers(spec, shape, spacing)
    for header in headers:
        if change is not None:
            change(header)
    instances = tuple(Instance(Path(f"{name}{k}"), h) for k, h in enumerate(headers))
    return Series(spec.series_uid, str(headers[0].Modality), instances)


def seg_of(referenced: str, name: str = "seg", date: str = "20240101") -> Series:
    ds = Dataset()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    ds.SOPInstanceUID = uid(name)
    ds.Modality = "SEG"
    ds.ContentDate = date
    item = Dataset()
    item.SeriesInstanceUID = referenced
    ds.ReferencedSeriesSequence = [item]
    ds.SegmentSequence = [segment(1, "10200004"), segment(2, "108369006")]
    return Series(uid(name, "series"), "SEG", (Instance(Path(name), ds),))


def segment(number: int, code: str) -> Dataset:
    item, kind = Dataset(), Dataset()
    kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning = code, "SCT", "x"
    item.SegmentNumber, item.SegmentLabel, item.SegmentedPropertyTypeCodeSequence = number, "x", [kind]
    return item


def chosen(*found: Series) -> dict[Phase, str]:
    return {c.phase: c.series.description for c in select(Case("1.2", found)).chosen}


def reasons(*found: Series) -> dict[str, str]:
    return {r.description: r.reason for r in select(Case("1.2", found)).rejected}


def set_(**attributes) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(header, keyword, value)

    return change


def test_one_series_for_each_phase_portal_venous_first():
    found = [series("native"), series("arterial"), series("portal venous"), series("delayed")]
    selection = select(Case("1.2", tuple(found)))
    assert [c.phase for c in selection.chosen][0] is Phase.PORTAL_VENOUS
    assert {c.phase for c in selection.chosen} == {
        Phase.NATIVE,
        Phase.ARTERIAL,
        Phase.PORTAL_VENOUS,
        Phase.DELAYED,
    }
    assert selection.rejected == ()


def test_the_series_a_segmentation_was_drawn_on_is_primary():
    arterial, portal = series("arterial"), series("portal venous")
    selection = select(Case("1.2", (arterial, portal, seg_of(arterial.series_instance_uid))))
    assert selection.chosen[0].series is arterial
    assert len(selection.segmentations) == 1
    assert selection.rejected == ()


def test_the_newer_segmentation_is_trusted_first():
    arterial, portal = series("arterial"), series("portal venous")
    older = seg_of(arterial.series_instance_uid, "older", "20240101")
    newer = seg_of(portal.series_instance_uid, "newer", "20240102")
    selection = select(Case("1.2", (arterial, portal, older, newer)))
    assert selection.chosen[0].series is portal
    assert [s.sop_instance_uid for s in selection.segmentations] == [uid("newer"), uid("older")]


CORONAL = {"orientation": (1, 0, 0, 0, 0, -1), "step_mm": (0.0, 3.0, 0.0)}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (series("Topogram 0.6"), "localizer"),
        (series("x", change=set_(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), "localizer"),
        (series("MIP thick"), "reformatted or projected"),
        (series("x", change=set_(ImageType=["ORIGINAL", "PRIMARY", "MPR"])), "Image Type has MPR"),
        (series("x", change=set_(ImageType=["DERIVED", "PRIMARY", "AXIAL"])), "derived"),
        (series("x", change=set_(ImageType=["ORIGINAL", "SECONDARY", "AXIAL"])), "secondary images"),
        (series("Iodine map"), "parameter map"),
        (series("x", shape=(9, 8, 8)), "9 images; at least 10"),
        (series("x", shape=(1, 8, 8)), "1 image; at least 10"),
        (series("x", **CORONAL), "not axial"),
        (series("x", change=set_(BodyPartExamined="HEAD")), "body part HEAD"),
        (series("x", change=set_(SOPClassUID="1.2.840.10008.5.1.4.1.1.7")), "secondary capture"),
        (series("x", change=set_(SamplesPerPixel=3)), "colour"),
        (series("x", change=set_(Modality="PT")), "modality PT is not"),
        (series("x", change=set_(SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1")), "Enhanced CT"),
        (series("ep2d_diff b800", modality="MR", phase="t2"), "diffusion"),
    ],
)
def test_series_that_are_no_input_are_named_with_their_reason(bad, reason):
    good = series("portal venous")
    selection = select(Case("1.2", (good, bad)))
    assert [c.series for c in selection.chosen] == [good]
    assert [r.series_instance_uid for r in selection.rejected] == [bad.series_instance_uid]
    assert reason in selection.rejected[0].reason


def test_a_derived_series_that_a_person_segmented_is_used():
    derived = series("x", change=set_(ImageType=["DERIVED", "SECONDARY", "PROCESSED"]))
    selection = select(Case("1.2", (derived, seg_of(derived.series_instance_uid))))
    assert [c.series for c in selection.chosen] == [derived]


def test_a_localizer_stays_refused_even_when_segmented():
    scout = series("scout")
    assert select(Case("1.2", (scout, seg_of(scout.series_instance_uid)))).chosen == ()


@pytest.mark.parametrize(
    ("winner", "loser", "reason"),
    [
        ({}, {"change": set_(ConvolutionKernel="B70f")}, "sharp"),
        ({}, {"change": set_(ConvolutionKernel=["Br59d", "3"])}, "sharp"),
        ({}, {"change": set_(ConvolutionKernel="LUNG")}, "sharp"),
        ({"shape": (60, 8, 8)}, {"shape": (20, 8, 8)}, "covers 60 mm; another of this phase covers 180 mm"),
        (
            {"shape": (60, 8, 8), "spacing": (1.0, 2, 2)},
            {"shape": (12, 8, 8), "spacing": (5.0, 2, 2)},
            "slices every 5.00 mm; another of this phase has 1.00 mm",
        ),
        ({"shape": (24, 8, 8)}, {"shape": (23, 8, 8)}, "23 images; another series of this phase has 24"),
        ({"number": 3}, {"number": 4}, "comes first by its number"),
    ],
)
def test_of_several_reconstructions_the_better_one_is_taken(winner, loser, reason):
    a = series("portal venous a", **winner)
    b = series("portal venous b", **loser)
    for order in ((a, b), (b, a)):
        assert chosen(*order) == {Phase.PORTAL_VENOUS: "portal venous a"}
        assert reason in reasons(*order)["portal venous b"]


def test_series_of_unknown_phase_are_kept_apart_by_acquisition():
    a = series("Abd 1", number=1)
    b = series("Abd 2", number=2)
    c = series("Abd 2 lung", number=2, change=set_(ConvolutionKernel="B80f"))
    selection = select(Case("1.2", (a, b, c)))
    assert {s.series.description for s in selection.chosen} == {"Abd 1", "Abd 2"}
    assert {s.phase for s in selection.chosen} == {Phase.UNKNOWN}
    assert [r.description for r in selection.rejected] == ["Abd 2 lung"]


def test_mr_beside_ct_is_left_out_with_its_reason():
    ct, mr = series("portal venous"), series("t1_vibe arterial", modality="MR", phase="t1_arterial")
    selection = select(Case("1.2", (ct, mr)))
    assert [c.series for c in selection.chosen] == [ct]
    assert "primary series is CT" in selection.rejected[0].reason


def test_an_empty_choice_is_no_error():
    selection = select(Case("1.2", (series("scout"),)))
    assert selection.chosen == ()
    assert len(selection.rejected) == 1


def test_a_written_mr_study(tmp_path):
    folder = write_study(tmp_path / "mr", ("t1", "t1_arterial", "t1_portal_venous", "t2"), "MR", seg=None)
    selection = select(read_case(folder))
    assert [c.phase for c in selection.chosen] == [
        Phase.T1_PORTAL_VENOUS,
        Phase.T1_ARTERIAL,
        Phase.T1,
        Phase.T2,
    ]


def test_real_ct_without_any_description_is_chosen(needs_data):
    selection = select(read_case(needs_data("ircad17")))
    assert [(c.phase, len(c.series.instances)) for c in selection.chosen] == [(Phase.UNKNOWN, 119)]
    assert selection.rejected == ()
