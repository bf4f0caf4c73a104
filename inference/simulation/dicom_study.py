"""A simulated patient as a DICOM study: CT series, and a segmentation with the truth.

UIDs are ``2.25.<uuid5>`` of the seed and the specification, times come from the caller: the same
patient at the same time is the same bytes.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from inference.case import Phase
from inference.results import Mask, StoredValues
from inference.simulation.patient import SimulatedPatient
from inference.simulation.tissues import Structure

MANUFACTURER = "Hepatocast Simulator"
"""Of simulated images; not the node's own name, by which it refuses what it made itself."""

_NAMESPACE = uuid.UUID("8c5a2d4e-2a54-5b0e-9a51-6f0d1b7f3a90")
_MODEL = "Simulated CT"
_VERSION = "1"
_INTERCEPT = -1024


@dataclass(frozen=True, slots=True)
class _Scan:
    """How one phase is acquired."""

    phase: Phase
    series_number: int
    description: str
    delay_s: int | None


_SCANS = (
    _Scan(Phase.NATIVE, 2, "Abdomen native 3.0 B30f", None),
    _Scan(Phase.ARTERIAL, 3, "Abdomen arterial 3.0 B30f", 38),
    _Scan(Phase.PORTAL_VENOUS, 4, "Abdomen portal venous 3.0 B30f", 75),
)


@dataclass(frozen=True, slots=True)
class _Segment:
    label: str
    mask: Mask
    category: Code
    kind: Code


_ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
_ABNORMAL = Code("49755003", "SCT", "Morphologically Altered Structure")
_LIVER = Code("10200004", "SCT", "Liver")
_CARCINOMA = Code("109841003", "SCT", "Liver cell carcinoma")
_NECROSIS = Code("6574001", "SCT", "Necrosis")
_AORTA = Code("15825003", "SCT", "Aorta")
_PORTAL_VEIN = Code("32764006", "SCT", "Portal vein")
_KIDNEY = Code("64033007", "SCT", "Kidney")


def write_study(patient: SimulatedPatient, folder: Path, when: dt.datetime) -> None:
    """Write the CT series and the segmentation of a patient under `folder`.

    Parameters
    ----------
    folder : Path
        Made if absent; gets a folder for each phase, and ``seg.dcm``.
    when : datetime
        Date and time of the study.
    """
    last: list[Dataset] = []
    for scan in _SCANS:
        if scan.phase not in patient.volumes:
            continue
        target = folder / scan.phase.value
        target.mkdir(parents=True, exist_ok=True)
        last = list(_series(patient, scan, when))
        for dataset in last:
            dataset.save_as(target / f"{int(dataset.InstanceNumber):04d}.dcm", enforce_file_format=True)
    segmentation = _segmentation(patient, last, when)
    segmentation.save_as(folder / "seg.dcm", enforce_file_format=True)


def _uid(patient: SimulatedPatient, when: dt.datetime, *parts: str | int) -> UID:
    text = "\x1f".join(
        [_VERSION, str(patient.seed), repr(patient.spec), when.isoformat(), *(str(p) for p in parts)]
    )
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, text).int}")


def _series(patient: SimulatedPatient, scan: _Scan, when: dt.datetime) -> Iterator[FileDataset]:
    volume = patient.volumes[scan.phase]
    for index in range(volume.shape[0]):
        yield _slice(patient, scan, index, volume, when)


def _slice(
    patient: SimulatedPatient, scan: _Scan, index: int, volume: StoredValues, when: dt.datetime
) -> FileDataset:
    sop_instance_uid = _uid(patient, when, scan.phase.value, index)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = sop_instance_uid
    _patient_and_study(ds, patient, when)
    _series_and_equipment(ds, patient, scan, when)
    _acquisition(ds, scan, index, when)
    _plane(ds, patient, index)
    _pixels(ds, volume[index])
    return ds


def _patient_and_study(ds: Dataset, patient: SimulatedPatient, when: dt.datetime) -> None:
    ds.PatientName = "SIMULATED^PATIENT"
    ds.PatientID = f"SIM-{patient.seed}"
    ds.PatientBirthDate = ""
    ds.PatientSex = "M"
    ds.PatientAge = "061Y"
    ds.StudyInstanceUID = _uid(patient, when, "study")
    ds.StudyID = f"SIM{patient.seed}"[:16]
    ds.StudyDate = when.strftime("%Y%m%d")
    ds.StudyTime = when.strftime("%H%M%S")
    ds.StudyDescription = "CT abdomen, simulated"
    ds.AccessionNumber = f"SIM{patient.seed}"[:16]
    ds.ReferringPhysicianName = ""


def _series_and_equipment(ds: Dataset, patient: SimulatedPatient, scan: _Scan, when: dt.datetime) -> None:
    ds.Modality = "CT"
    ds.SeriesInstanceUID = _uid(patient, when, scan.phase.value)
    ds.SeriesNumber = scan.series_number
    ds.SeriesDescription = scan.description
    ds.ProtocolName = "Liver multiphase"
    ds.BodyPartExamined = "ABDOMEN"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = _uid(patient, when, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = _MODEL
    ds.DeviceSerialNumber = "SIM"
    ds.SoftwareVersions = _VERSION
    ds.InstitutionName = ""


def _acquisition(ds: Dataset, scan: _Scan, index: int, when: dt.datetime) -> None:
    acquired = when + dt.timedelta(seconds=120 + (scan.delay_s or -60))
    for kind in ("Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", acquired.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", acquired.strftime("%H%M%S"))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber = scan.series_number
    ds.InstanceNumber = index + 1
    ds.KVP = "120"
    ds.ConvolutionKernel = "B30f"
    if scan.delay_s is None:
        return
    injected = when + dt.timedelta(seconds=120)
    ds.ContrastBolusAgent = "Iodinated contrast medium"
    ds.ContrastBolusRoute = "IV"
    ds.ContrastBolusVolume = "100"
    ds.ContrastBolusStartTime = injected.strftime("%H%M%S")


def _plane(ds: Dataset, patient: SimulatedPatient, index: int) -> None:
    dz, dy, dx = patient.spec.step_mm
    position = patient.affine @ np.array([index, 0.0, 0.0, 1.0])
    ds.ImagePositionPatient = [f"{v:.4f}" for v in position[:3]]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing = [f"{dy:g}", f"{dx:g}"]
    ds.SliceThickness = f"{dz:g}"
    ds.SpacingBetweenSlices = f"{dz:g}"
    ds.SliceLocation = f"{position[2]:.4f}"


def _pixels(ds: Dataset, values: StoredValues) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 0
    ds.RescaleIntercept = str(_INTERCEPT)
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    ds.WindowCenter, ds.WindowWidth = "80", "320"
    stored = np.clip(values - _INTERCEPT, 0, 4095).astype("<u2")
    ds.PixelData = stored.tobytes()


def _segments(patient: SimulatedPatient) -> list[_Segment]:
    structures = patient.structures
    kidney = np.isin(structures, [Structure.KIDNEY_CORTEX, Structure.KIDNEY_MEDULLA])
    found = [_Segment("Liver", patient.liver, _ANATOMY, _LIVER)]
    found += [
        _Segment(f"Tumour {number}", patient.tumour == number, _ABNORMAL, _CARCINOMA)
        for number in range(1, int(patient.tumour.max()) + 1)
    ]
    found += [
        _Segment("Necrosis", patient.core, _ABNORMAL, _NECROSIS),
        _Segment("Aorta", structures == Structure.AORTA, _ANATOMY, _AORTA),
        _Segment("Portal vein", patient.portal_vein, _ANATOMY, _PORTAL_VEIN),
        _Segment("Kidney", kidney, _ANATOMY, _KIDNEY),
    ]
    return [s for s in found if s.mask.any()]


def _segmentation(patient: SimulatedPatient, source: list[Dataset], when: dt.datetime) -> hd.seg.Segmentation:
    parts = _segments(patient)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=part.label,
            segmented_property_category=part.category,
            segmented_property_type=part.kind,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            tracking_id=part.label,
            tracking_uid=_uid(patient, when, "tracking", part.label),
        )
        for number, part in enumerate(parts, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=source,
        pixel_array=np.stack([p.mask for p in parts], axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=_uid(patient, when, "segmentation series"),
        series_number=90,
        sop_instance_uid=_uid(patient, when, "segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=_MODEL,
        software_versions=_VERSION,
        device_serial_number="SIM",
        content_label="TRUTH",
        content_description="True structures of the simulation",
        series_description="Truth: liver, tumours, vessels",
        omit_empty_frames=True,
    )
    _settle(segmentation, patient, when)
    return segmentation


def _settle(segmentation: Dataset, patient: SimulatedPatient, when: dt.datetime) -> None:
    """Replace what highdicom takes from the clock or draws at random."""
    organization = _uid(patient, when, "dimensions")
    for item in segmentation.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = organization
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    made = when + dt.timedelta(minutes=30)
    for kind in ("Series", "Content", "InstanceCreation"):
        setattr(segmentation, f"{kind}Date", made.strftime("%Y%m%d"))
        setattr(segmentation, f"{kind}Time", made.strftime("%H%M%S"))
    for item in segmentation.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = made.strftime("%Y%m%d%H%M%S")
