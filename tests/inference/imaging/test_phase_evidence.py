"""Attributes, images and times weighed together."""

import pytest
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.imaging.phase import attribute_phase, phases_named, seconds_named
from inference.imaging.phase_evidence import SeriesEvidence, evidence_of, settle, with_image
from inference.imaging.phase_features import CT_PHASES, MR_PHASES

N, A, P, D = CT_PHASES


def header(**attributes) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def ct(time: str = "", **attributes) -> SeriesEvidence:
    return evidence_of([header(AcquisitionTime=time, **attributes)], "CT")


def sees(evidence: SeriesEvidence, phase: Phase, share: float = 0.99) -> SeriesEvidence:
    phases = CT_PHASES if evidence.modality == "CT" else MR_PHASES
    rest = (1.0 - share) / (len(phases) - 1)
    return with_image(evidence, {p: share if p is phase else rest for p in phases}, "the image")


@pytest.mark.parametrize(
    ("description", "phase"),
    [
        ("ABD HAP 3.0", A),
        ("LAP 1.25", A),
        ("Fase arterial tardía", A),
        ("faza tętnicza", A),
        ("arteriële fase", A),
        ("동맥기", A),
        ("Liver PVP", P),
        ("faza żylna", P),
        ("HVP 5mm", P),
        ("фаза портальная", P),
        ("문맥기", P),
        ("opóźniona", D),
        ("verlaat 5 min", D),
        ("指連 遅延相", D),
        ("NCCT ABD", N),
        ("Abdomen C- 5.0", N),
        ("zonder contrast", N),
        ("sem contraste", N),
        ("単純CT", N),
    ],
)
def test_more_languages_and_habits_of_vendors(description, phase):
    assert phases_named(description) == {phase}


@pytest.mark.parametrize(
    "description", ["PORTABLE ABD", "t2 without FS", "t1 w/o fat sat", "late gadolinium enhancement", "C-arm"]
)
def test_words_that_only_look_like_a_phase(description):
    assert phases_named(description) == frozenset()


@pytest.mark.parametrize(
    ("description", "seconds"),
    [("Abd 35s", 35), ("LIVER 70 sec 3.0", 70), ("5 min", 300), ("Abd 3.0 B30s", None), ("1.5 s", None)],
)
def test_seconds_in_a_description(description, seconds):
    assert seconds_named(description) == seconds


@pytest.mark.parametrize(
    ("attributes", "phase"),
    [
        ({"SeriesDescription": "Leber 35s"}, A),
        ({"SeriesDescription": "Leber 70 s"}, P),
        ({"SeriesDescription": "Leber 5 min"}, D),
        ({"SeriesDescription": "Leber 52 s"}, Phase.UNKNOWN),
        ({"ContrastBolusAgent": "NONE"}, N),
        ({"ContrastBolusStartTime": "101500", "AcquisitionTime": "101537"}, A),
        ({"SeriesDescription": "3.0 B30f", "ProtocolName": "Abdomen venös"}, P),
        ({}, Phase.UNKNOWN),
    ],
)
def test_attributes_of_ct_alone(attributes, phase):
    assert attribute_phase(header(**attributes), "CT").phase is phase
    assert settle([evidence_of([header(**attributes)], "CT")])[0].phase is phase


@pytest.mark.parametrize(
    ("description", "seen", "share", "phase", "warned"),
    [
        ("arterial", A, 0.99, A, False),
        ("arterial", P, 0.60, A, False),
        ("arterial", P, 0.90, Phase.UNKNOWN, True),
        ("arterial", P, 0.999, P, True),
        ("", P, 0.95, P, False),
        ("", P, 0.60, Phase.UNKNOWN, False),
        ("arterial + portal venous", P, 0.90, P, False),
        ("arterial + portal venous", N, 0.70, Phase.UNKNOWN, False),
    ],
)
def test_what_an_image_says_against_a_description(description, seen, share, phase, warned):
    found = settle([sees(ct(SeriesDescription=description), seen, share)])[0]
    assert found.phase is phase
    assert bool(found.warning) is warned
    assert "By the image it looks" in found.evidence
    if phase is Phase.UNKNOWN:
        assert found.probability < 0.8
        assert "Unknown" in found.evidence


TIMES = ("101000", "101135", "101212", "101420")


def test_order_and_intervals_decide_where_images_alone_do_not():
    unsure = [sees(ct(time), phase, 0.6) for time, phase in zip(TIMES, CT_PHASES, strict=True)]
    assert {settle([s])[0].phase for s in unsure} == {Phase.UNKNOWN}
    found = settle(unsure)
    assert [s.phase for s in found] == [N, A, P, D]
    assert all("With the order of the acquisitions" in s.evidence for s in found)
    assert [s.phase for s in settle(unsure[::-1])] == [D, P, A, N]


def test_order_and_intervals_alone_are_not_enough_for_every_acquisition():
    found = settle([ct(time) for time in TIMES])
    assert Phase.UNKNOWN in {s.phase for s in found}
    assert all(s.probability >= 0.8 for s in found if s.phase is not Phase.UNKNOWN)


def test_two_unnamed_acquisitions_are_not_guessed():
    assert {s.phase for s in settle([ct("101000"), ct("101040")])} == {Phase.UNKNOWN}


def test_one_named_series_tells_those_around_it():
    first, second = settle([ct("101135", SeriesDescription="arterial"), ct("101215")])
    assert (first.phase, second.phase) == (A, P)


def test_two_reconstructions_of_one_acquisition_have_one_phase():
    series = [sees(ct("101000"), P, 0.97), ct("101002"), ct("101400")]
    assert settle(series)[1].phase is P


def test_useless_times_leave_the_names_alone():
    found = settle([ct("101001", SeriesDescription="arterial"), ct("101002", SeriesDescription="portal")])
    assert [s.phase for s in found] == [A, P]


def test_an_arterial_mislabelled_as_delayed_between_two_phases_is_put_right():
    series = [
        sees(ct("101000", SeriesDescription="native"), N),
        sees(ct("101135", SeriesDescription="delayed"), A, 0.97),
        sees(ct("101215", SeriesDescription="portal"), P),
    ]
    found = settle(series)
    assert [s.phase for s in found] == [N, A, P]
    assert "not what its attributes say" in found[1].warning
    assert not found[0].warning


@pytest.mark.parametrize(
    ("attributes", "seen", "phase"),
    [
        ({"SeriesDescription": "t1_vibe", "ContrastBolusAgent": "Gd"}, Phase.T1_ARTERIAL, Phase.T1_ARTERIAL),
        ({"SeriesDescription": "t1_vibe"}, Phase.T1_PORTAL_VENOUS, Phase.T1_PORTAL_VENOUS),
        ({"SeriesDescription": "t1_vibe arterial"}, Phase.T1_ARTERIAL, Phase.T1_ARTERIAL),
        ({"SeriesDescription": "t1_vibe hepatobiliary"}, Phase.DELAYED, Phase.DELAYED),
    ],
)
def test_mr_phases(attributes, seen, phase):
    evidence = evidence_of([header(**attributes)], "MR")
    assert settle([sees(evidence, seen)])[0].phase is phase


def test_t2_has_no_place_in_the_order_of_the_dynamic_series():
    t2 = evidence_of([header(SeriesDescription="t2_haste", AcquisitionTime="101150")], "MR")
    names = [("t1_vibe pre contrast", "101000"), ("t1_vibe arterial", "101130")]
    dynamic = [evidence_of([header(SeriesDescription=d, AcquisitionTime=t)], "MR") for d, t in names]
    assert [s.phase for s in settle([*dynamic, t2])] == [Phase.T1, Phase.T1_ARTERIAL, Phase.T2]
