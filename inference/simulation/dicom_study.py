"""Simulated studies as DICOM files: CT or MR series, and a segmentation with the truth.

UIDs are ``2.25.<uuid5>`` of the patient and the visit, times come from the caller: the same patient at
the same time is the same bytes. A lesion keeps its Tracking UID from visit to visit.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

from inference.results import StoredValues
from inference.simulation.imaging_study import (
    AORTA,
    CARCINOMA,
    KIDNEY,
    LIVER,
    NECROSIS,
    PORTAL_VEIN,
    ImagingStudy,
    StudySegment,
    Subject,
)
from inference.simulation.patient import SimulatedPatient
from inference.simulation.series_table import CT_WINDOW, SCANNER_MODELS, SERIES, SeriesPlan
from inference.simulation.tissues import Structure

MANUFACTURER = "Hepatocast Simulator"
"""Of simulated images; not the node's own name, by which it refuses what it made itself."""

_NAMESPACE = uuid.UUID("8c5a2d4e-2a54-5b0e-9a51-6f0d1b7f3a90")
_VERSION = "2"
_INTERCEPT = -1024


def write_study(patient: SimulatedPatient, folder: Path, when: dt.datetime) -> None:
    """Write the CT series and the segmentation of a patient under `folder`.

    Parameters
    ----------
    folder : Path
        Made if absent; gets a folder for each phase, and ``seg.dcm``.
    when : datetime
        Date and time of the study.
    """
    study = ImagingStudy(
        subject=Subject(f"SIM-{patient.seed}"),
        key="\x1f".join([str(patient.seed), repr(patient.spec), when.isoformat()]),
        when=when,
        step_mm=patient.spec.step_mm,
        affine=patient.affine,
        volumes=patient.volumes,
        segments=tuple(_segments(patient)),
    )
    write_imaging_study(study, folder)


def _segments(patient: SimulatedPatient) -> Iterator[StudySegment]:
    yield StudySegment("Liver", patient.liver, LIVER)
    for number in range(1, int(patient.tumour.max()) + 1):
        yield StudySegment(f"Tumour {number}", patient.tumour == number, CARCINOMA)
    yield StudySegment("Necrosis", patient.core, NECROSIS)
    yield StudySegment("Aorta", patient.structures == Structure.AORTA, AORTA)
    yield StudySegment("Portal vein", patient.portal_vein, PORTAL_VEIN)
    kidney = np.isin(patient.structures, [Structure.KIDNEY_CORTEX, Structure.KIDNEY_MEDULLA])
    yield StudySegment("Kidney", kidney, KIDNEY)


def write_imaging_study(study: ImagingStudy, folder: Path) -> None:
    """Write the series and the true segmentation of one visit under `folder`.

    The folder is made if absent; it gets a folder for each phase, and ``seg.dcm``, which refers to the
    last series.
    """
    last: list[Dataset] = []
    for phase, plan in SERIES.items():
        if phase not in study.volumes:
            continue
        target = folder / phase.value
        target.mkdir(parents=True, exist_ok=True)
        last = list(_series(study, plan))
        for dataset in last:
            dataset.save_as(target / f"{int(dataset.InstanceNumber):04d}.dcm", enforce_file_format=True)
    segmentation = _segmentation(study, last)
    segmentation.save_as(folder / "seg.dcm", enforce_file_format=True)


def study_uid(study: ImagingStudy) -> str:
    """Return the Study Instance UID under which a study is written."""
    return str(_uid(study.key, "study"))


def _uid(*parts: str | int) -> UID:
    text = "\x1f".join([_VERSION, *(str(p) for p in parts)])
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, text).int}")


def _series(study: ImagingStudy, plan: SeriesPlan) -> Iterator[FileDataset]:
    volume = study.volumes[plan.phase]
    bright = max(int(np.percentile(volume, 99.0)), 2) if plan.modality == "MR" else 0
    for index in range(volume.shape[0]):
        yield _slice(study, plan, index, volume[index], bright)


def _slice(
    study: ImagingStudy, plan: SeriesPlan, index: int, values: StoredValues, bright: int
) -> FileDataset:
    sop_class = CTImageStorage if plan.modality == "CT" else MRImageStorage
    sop_instance_uid = _uid(study.key, plan.phase.value, index)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = sop_instance_uid
    _patient_and_study(ds, study, plan)
    _series_and_equipment(ds, study, plan)
    _acquisition(ds, study, plan, index)
    _plane(ds, study, index)
    if plan.modality == "CT":
        _ct_pixels(ds, values)
    else:
        _mr_pixels(ds, values, bright)
    return ds


def _patient_and_study(ds: Dataset, study: ImagingStudy, plan: SeriesPlan) -> None:
    subject = study.subject
    short = subject.patient_id.replace("-", "")[:16]
    ds.PatientName = "SIMULATED^PATIENT"
    ds.PatientID = subject.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = subject.sex
    ds.PatientAge = f"{subject.age_years:03d}Y"
    ds.StudyInstanceUID = _uid(study.key, "study")
    ds.StudyID = short
    ds.StudyDate = study.when.strftime("%Y%m%d")
    ds.StudyTime = study.when.strftime("%H%M%S")
    ds.StudyDescription = f"{plan.modality} abdomen, simulated"
    ds.AccessionNumber = short
    ds.ReferringPhysicianName = ""


def _series_and_equipment(ds: Dataset, study: ImagingStudy, plan: SeriesPlan) -> None:
    ds.Modality = plan.modality
    ds.SeriesInstanceUID = _uid(study.key, plan.phase.value)
    ds.SeriesNumber = plan.number
    ds.SeriesDescription = plan.description.format(mm=study.step_mm[0])
    ds.ProtocolName = "Liver multiphase"
    ds.BodyPartExamined = "ABDOMEN"
    ds.PatientPosition = "HFS"
    ds.FrameOfReferenceUID = _uid(study.key, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = SCANNER_MODELS[study.scanner, plan.modality]
    ds.DeviceSerialNumber = "SIM"
    ds.SoftwareVersions = _VERSION
    ds.InstitutionName = ""


def _acquisition(ds: Dataset, study: ImagingStudy, plan: SeriesPlan, index: int) -> None:
    acquired = study.when + dt.timedelta(seconds=120 + (plan.delay_s or plan.before_s))
    for kind in ("Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", acquired.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", acquired.strftime("%H%M%S"))
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if plan.modality == "CT" else ["ORIGINAL", "PRIMARY", "M"]
    ds.AcquisitionNumber = plan.number
    ds.InstanceNumber = index + 1
    for keyword, value in plan.attributes.items():
        setattr(ds, keyword, list(value) if isinstance(value, tuple) else value)
    if plan.delay_s is None:
        return
    injected = study.when + dt.timedelta(seconds=120)
    ds.ContrastBolusAgent = plan.agent
    ds.ContrastBolusRoute = "IV"
    ds.ContrastBolusVolume = "100" if plan.modality == "CT" else "8"
    ds.ContrastBolusStartTime = injected.strftime("%H%M%S")


def _plane(ds: Dataset, study: ImagingStudy, index: int) -> None:
    dz, dy, dx = study.step_mm
    position = study.affine @ np.array([index, 0.0, 0.0, 1.0])
    ds.ImagePositionPatient = [f"{v:.4f}" for v in position[:3]]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.PixelSpacing = [f"{dy:g}", f"{dx:g}"]
    ds.SliceThickness = f"{dz:g}"
    ds.SpacingBetweenSlices = f"{dz:g}"
    ds.SliceLocation = f"{position[2]:.4f}"


def _ct_pixels(ds: Dataset, values: StoredValues) -> None:
    _pixels(ds, np.clip(values - _INTERCEPT, 0, 4095), 12)
    ds.RescaleIntercept = str(_INTERCEPT)
    ds.RescaleSlope = "1"
    ds.RescaleType = "HU"
    ds.WindowCenter, ds.WindowWidth = CT_WINDOW


def _mr_pixels(ds: Dataset, values: StoredValues, bright: int) -> None:
    _pixels(ds, np.clip(values, 0, 65535), 16)
    ds.WindowCenter, ds.WindowWidth = str(bright // 2), str(bright)


def _pixels(ds: Dataset, stored: StoredValues, bits: int) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    ds.PixelRepresentation = 0
    ds.PixelData = stored.astype("<u2").tobytes()


def _segmentation(study: ImagingStudy, source: list[Dataset]) -> hd.seg.Segmentation:
    parts = [s for s in study.segments if s.mask.any()]
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=part.label,
            segmented_property_category=part.category,
            segmented_property_type=part.kind,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            tracking_id=part.label,
            tracking_uid=_uid(study.subject.patient_id, "tracking", part.label),
        )
        for number, part in enumerate(parts, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=source,
        pixel_array=np.stack([p.mask for p in parts], axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=_uid(study.key, "segmentation series"),
        series_number=90,
        sop_instance_uid=_uid(study.key, "segmentation"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="Simulated truth",
        software_versions=_VERSION,
        device_serial_number="SIM",
        content_label="TRUTH",
        content_description="True structures of the simulation",
        series_description="Truth: liver, tumours, vessels",
        omit_empty_frames=True,
    )
    _settle(segmentation, study)
    return segmentation


def _settle(segmentation: Dataset, study: ImagingStudy) -> None:
    """Replace what highdicom takes from the clock or draws at random."""
    organization = _uid(study.key, "dimensions")
    for item in segmentation.DimensionOrganizationSequence:
        item.DimensionOrganizationUID = organization
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    made = study.when + dt.timedelta(minutes=30)
    for kind in ("Series", "Content", "InstanceCreation"):
        setattr(segmentation, f"{kind}Date", made.strftime("%Y%m%d"))
        setattr(segmentation, f"{kind}Time", made.strftime("%H%M%S"))
    for item in segmentation.get("ContributingEquipmentSequence", []):
        item.ContributionDateTime = made.strftime("%Y%m%d%H%M%S")
