import pytest
from pydicom.dataset import Dataset

from inference.case import Phase
from inference.imaging.phase import (
    ContrastMeasurement,
    bolus_delay_s,
    ct_phase,
    mr_phase,
    phase_from_hu,
    phases_named,
)
from inference.imaging.segmentations import Structure


def header(**attributes) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("description", "phase"),
    [
        ("ABD ARTERIAL 2.0 B30f", Phase.ARTERIAL),
        ("Leber arteriell", Phase.ARTERIAL),
        ("Phase artérielle", Phase.ARTERIAL),
        ("late arterial 3mm", Phase.ARTERIAL),
        ("spätarteriell", Phase.ARTERIAL),
        ("ART_1.25", Phase.ARTERIAL),
        ("动脉期", Phase.ARTERIAL),
        ("Abdomen portalvenös", Phase.PORTAL_VENOUS),
        ("PORTAL VENOUS PHASE", Phase.PORTAL_VENOUS),
        ("temps veineux", Phase.PORTAL_VENOUS),
        ("fase portale", Phase.PORTAL_VENOUS),
        ("门静脉期", Phase.PORTAL_VENOUS),
        ("PV 5mm", Phase.PORTAL_VENOUS),
        ("Delayed 3 min", Phase.DELAYED),
        ("temps tardif", Phase.DELAYED),
        ("Spätphase", Phase.DELAYED),
        ("venous delayed", Phase.DELAYED),
        ("延迟期", Phase.DELAYED),
        ("Abdomen nativ", Phase.NATIVE),
        ("NON-CONTRAST ABD", Phase.NATIVE),
        ("sans injection", Phase.NATIVE),
        ("w/o contrast", Phase.NATIVE),
        ("平扫", Phase.NATIVE),
    ],
)
def test_words_of_many_languages_name_a_phase(description, phase):
    assert phases_named(description) == {phase}


@pytest.mark.parametrize("description", ["", "Abdomen 3.0 B30f", "liver", "partial", "heart", "alternative"])
def test_words_that_name_nothing(description):
    assert phases_named(description) == frozenset()


def test_several_phases_in_one_description_are_unknown():
    found = ct_phase(header(SeriesDescription="arterial + portal venous"))
    assert found.phase is Phase.UNKNOWN
    assert "several" in found.evidence


@pytest.mark.parametrize(
    ("start", "acquired", "phase"),
    [
        ("101500", "101535", Phase.ARTERIAL),
        ("101500.5", "101610.25", Phase.PORTAL_VENOUS),
        ("235950", "000100", Phase.PORTAL_VENOUS),
        ("101500", "101800", Phase.DELAYED),
        ("101500", "101633", Phase.PORTAL_VENOUS),
        ("101500", "101505", Phase.UNKNOWN),
        ("101500", "101710", Phase.UNKNOWN),
    ],
)
def test_time_since_the_bolus_tells_the_phase(start, acquired, phase):
    found = ct_phase(header(ContrastBolusStartTime=start, AcquisitionTime=acquired, SeriesDescription="Abd"))
    assert found.phase is phase
    assert " s after the start" in found.evidence


def test_a_time_that_is_none_gives_no_delay():
    assert bolus_delay_s(header(ContrastBolusStartTime="", AcquisitionTime="101500")) is None
    assert bolus_delay_s(header(ContrastBolusStartTime="101500")) is None


def test_the_description_comes_before_the_protocol_name():
    found = ct_phase(header(SeriesDescription="arterial", ProtocolName="Liver native"))
    assert found.phase is Phase.ARTERIAL
    assert ct_phase(header(SeriesDescription="B30f", ProtocolName="Liver native")).phase is Phase.NATIVE


@pytest.mark.parametrize(
    ("attributes", "phase"),
    [
        ({"SeriesDescription": "t2_haste_tra"}, Phase.T2),
        ({"SeriesDescription": "t1_vibe_fs_tra arterial"}, Phase.T1_ARTERIAL),
        ({"SeriesDescription": "LAVA portal venous"}, Phase.T1_PORTAL_VENOUS),
        ({"SeriesDescription": "THRIVE pre contrast"}, Phase.T1),
        ({"SeriesDescription": "t1_vibe"}, Phase.T1),
        ({"SeriesDescription": "t1_vibe", "ContrastBolusAgent": "Gadolinium"}, Phase.UNKNOWN),
        ({"EchoTime": 90, "RepetitionTime": 2000, "ScanningSequence": "SE"}, Phase.T2),
        ({"EchoTime": 2.3, "RepetitionTime": 4.5, "ScanningSequence": "GR"}, Phase.T1),
        ({"EchoTime": 45, "RepetitionTime": 900}, Phase.UNKNOWN),
        ({}, Phase.UNKNOWN),
    ],
)
def test_mr_sequences(attributes, phase):
    assert mr_phase(header(**attributes)).phase is phase


AORTA, PORTAL, KIDNEY = Structure.AORTA, Structure.PORTAL_VEIN, Structure.KIDNEY


@pytest.mark.parametrize(
    ("liver", "vessels", "regions", "phase"),
    [
        (58, 60, {AORTA: 42, PORTAL: 42, KIDNEY: 32}, Phase.NATIVE),
        (70, 88, {AORTA: 290, PORTAL: 85, KIDNEY: 150}, Phase.ARTERIAL),
        (110, 160, {AORTA: 150, PORTAL: 170, KIDNEY: 190}, Phase.PORTAL_VENOUS),
        (90, 104, {AORTA: 105, PORTAL: 105, KIDNEY: 140}, Phase.DELAYED),
        (60, 60, {AORTA: 60, KIDNEY: 200}, Phase.UNKNOWN),
        (103, 134, {}, Phase.PORTAL_VENOUS),
        (60, 64, {}, Phase.UNKNOWN),
        (70, 120, {}, Phase.UNKNOWN),
    ],
)
def test_hu_tell_the_phase(liver, vessels, regions, phase):
    found = phase_from_hu(ContrastMeasurement(liver, vessels, regions))
    assert found.phase is phase
    assert f"liver {liver} HU" in found.evidence
    assert ("less certain" in found.evidence) == (AORTA not in regions)
