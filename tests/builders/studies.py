"""Small synthetic studies: a body with liver, vessels and tumours as CT or MR series, and a SEG.

Everything is deterministic: the same arguments write the same UIDs and pixels.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage

_NAMESPACE = uuid.UUID("c0ffee00-0000-4000-8000-000000000001")

Edit = Callable[[int, Dataset], None]
"""Called with the index of a slice and its data set before it is written."""

LIVER = Code("10200004", "SCT", "Liver")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")
NECROSIS = Code("6574001", "SCT", "Necrosis")
AORTA = Code("15825003", "SCT", "Aorta")
PORTAL_VEIN = Code("32764006", "SCT", "Portal vein")
KIDNEY = Code("64033007", "SCT", "Kidney")
SPLEEN = Code("78961009", "SCT", "Spleen")
ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")


def uid(*parts: object) -> str:
    """Return a UID that is always the same for the same parts."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}"


# ------------------------------------------------------------------ anatomy


@dataclass(frozen=True)
class Sphere:
    """A tumour: centre (z, y, x) and radius in mm from the corner of the volume; core: necrotic part."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    core_mm: float = 0.0


@dataclass(frozen=True)
class Phantom:
    """A body of 300 x 220 mm with a liver of about 800 ml."""

    shape: tuple[int, int, int] = (40, 128, 128)
    spacing_mm: tuple[float, float, float] = (3.0, 2.5, 2.5)
    tumours: tuple[Sphere, ...] = (
        Sphere((60.0, 150.0, 110.0), 22.0, core_mm=9.0),
        Sphere((75.0, 150.0, 165.0), 12.0),
    )
    liver_centre_mm: tuple[float, float, float] = (60.0, 150.0, 125.0)
    liver_radii_mm: tuple[float, float, float] = (50.0, 55.0, 72.0)

    def ellipsoid(
        self, centre: tuple[float, float, float], radii: tuple[float, float, float]
    ) -> npt.NDArray[np.bool_]:
        grids = np.ogrid[tuple(slice(0, n) for n in self.shape)]
        total = sum(
            (((g + 0.5) * s - c) / r) ** 2
            for g, s, c, r in zip(grids, self.spacing_mm, centre, radii, strict=True)
        )
        return np.asarray(total <= 1)

    def sphere(self, tumour: Sphere, radius: float | None = None) -> npt.NDArray[np.bool_]:
        r = tumour.radius_mm if radius is None else radius
        return self.ellipsoid(tumour.centre_mm, (r, r, r))

    @property
    def masks(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Body, liver (tumours included), aorta, portal_vein, kidney, tumour_1, ..., necrosis."""
        far = 10_000.0
        found = {
            "body": self.ellipsoid((60.0, 160.0, 160.0), (far, 110.0, 150.0)),
            "liver": self.ellipsoid(self.liver_centre_mm, self.liver_radii_mm),
            "aorta": self.ellipsoid((60.0, 215.0, 165.0), (far, 11.0, 11.0)),
            "portal_vein": self.ellipsoid((60.0, 170.0, 150.0), (40.0, 7.0, 7.0)),
            "kidney": self.ellipsoid((30.0, 220.0, 220.0), (35.0, 22.0, 22.0)),
        }
        necrosis = np.zeros(self.shape, dtype=bool)
        for k, tumour in enumerate(self.tumours, 1):
            found[f"tumour_{k}"] = self.sphere(tumour)
            if tumour.core_mm:
                necrosis |= self.sphere(tumour, tumour.core_mm)
        found["necrosis"] = necrosis
        return found


HU: Mapping[str, Mapping[str, float]] = {
    "native": {
        "body": -20,
        "liver": 58,
        "portal_vein": 42,
        "aorta": 42,
        "kidney": 32,
        "tumour": 48,
        "necrosis": 25,
    },
    "arterial": {
        "body": -10,
        "liver": 70,
        "portal_vein": 85,
        "aorta": 290,
        "kidney": 150,
        "tumour": 120,
        "necrosis": 28,
    },
    "portal_venous": {
        "body": 0,
        "liver": 110,
        "portal_vein": 170,
        "aorta": 150,
        "kidney": 190,
        "tumour": 88,
        "necrosis": 28,
    },
    "delayed": {
        "body": 0,
        "liver": 90,
        "portal_vein": 105,
        "aorta": 105,
        "kidney": 140,
        "tumour": 75,
        "necrosis": 28,
    },
}
MR_SIGNAL: Mapping[str, Mapping[str, float]] = {
    "t1": {
        "body": 200,
        "liver": 400,
        "portal_vein": 250,
        "aorta": 250,
        "kidney": 300,
        "tumour": 320,
        "necrosis": 220,
    },
    "t1_arterial": {
        "body": 210,
        "liver": 430,
        "portal_vein": 400,
        "aorta": 900,
        "kidney": 600,
        "tumour": 620,
        "necrosis": 220,
    },
    "t1_portal_venous": {
        "body": 220,
        "liver": 620,
        "portal_vein": 800,
        "aorta": 700,
        "kidney": 700,
        "tumour": 520,
        "necrosis": 220,
    },
    "t2": {
        "body": 150,
        "liver": 180,
        "portal_vein": 100,
        "aorta": 60,
        "kidney": 400,
        "tumour": 300,
        "necrosis": 420,
    },
}
_DESCRIPTIONS = {
    "native": "Abdomen nativ 3.0",
    "arterial": "Abdomen arterial 3.0",
    "portal_venous": "Abdomen portal venous 3.0",
    "delayed": "Abdomen delayed 3.0",
    "t1": "t1_vibe_fs_tra pre contrast",
    "t1_arterial": "t1_vibe_fs_tra arterial",
    "t1_portal_venous": "t1_vibe_fs_tra portal venous",
    "t2": "t2_haste_tra",
}


def image(phantom: Phantom, phase: str, noise: float = 8.0) -> npt.NDArray[np.int16]:
    """Return HU, or MR signal, with noise that is the same in every call."""
    levels = HU.get(phase) or MR_SIGNAL[phase]
    air = -1000.0 if phase in HU else 0.0
    masks = phantom.masks
    values = np.full(phantom.shape, air)
    values[masks["body"]] = levels["body"]
    for name in ("liver", "aorta", "kidney", "portal_vein"):
        values[masks[name]] = levels[name]
    for k in range(1, len(phantom.tumours) + 1):
        values[masks[f"tumour_{k}"]] = levels["tumour"]
    values[masks["necrosis"]] = levels["necrosis"]
    rng = np.random.default_rng([7, len(phase), *phase.encode()])
    values += rng.normal(0, noise, values.shape)
    lowest = -1024 if phase in HU else 0
    return np.clip(np.rint(values), lowest, 3071).astype(np.int16)


# ------------------------------------------------------------------ series


@dataclass(frozen=True)
class SeriesSpec:
    """How a series is written; geometry in LPS mm."""

    phase: str = "portal_venous"
    modality: str = "CT"
    study: str = "study"
    name: str = ""
    description: str | None = None
    number: int = 1
    origin_mm: tuple[float, float, float] = (-160.0, -160.0, -60.0)
    orientation: tuple[float, float, float, float, float, float] = (1, 0, 0, 0, 1, 0)
    step_mm: tuple[float, float, float] | None = None
    intercept: float = -1024.0
    edit: Edit | None = None

    @property
    def series_uid(self) -> str:
        return uid(self.study, "series", self.name or self.phase)

    @property
    def study_uid(self) -> str:
        return uid(self.study)

    def sop_uid(self, index: int) -> str:
        return uid(self.study, self.name or self.phase, "instance", index)


def slice_headers(
    spec: SeriesSpec, shape: tuple[int, int, int], spacing: tuple[float, float, float]
) -> list[Dataset]:
    """Return the data sets of a series without pixels, in the order of the slices."""
    step = np.array(spec.step_mm or (0.0, 0.0, spacing[0]))
    return [_header(spec, k, shape, spacing, np.array(spec.origin_mm) + k * step) for k in range(shape[0])]


def _header(
    spec: SeriesSpec,
    index: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    position: npt.NDArray[np.float64],
) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if spec.modality == "CT" else ["ORIGINAL", "PRIMARY", "M"]
    ds.SOPClassUID = CTImageStorage if spec.modality == "CT" else MRImageStorage
    ds.SOPInstanceUID = spec.sop_uid(index)
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240301"
    ds.StudyTime = "101500"
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"1016{spec.number:02d}"
    ds.AccessionNumber = "A1"
    ds.Modality = spec.modality
    ds.Manufacturer = "Phantom Works"
    ds.ManufacturerModelName = "Phantom 1"
    ds.InstitutionName = "Test"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Liver"
    ds.SeriesDescription = _DESCRIPTIONS[spec.phase] if spec.description is None else spec.description
    ds.PatientName = "PHANTOM^LIVER"
    ds.PatientID = "PH1"
    ds.PatientBirthDate = "19600101"
    ds.PatientSex = "M"
    ds.BodyPartExamined = "ABDOMEN"
    ds.SliceThickness = f"{spacing[0]:g}"
    _modality_attributes(ds, spec)
    ds.DeviceSerialNumber = "1"
    ds.SoftwareVersions = "1"
    ds.PatientPosition = "HFS"
    ds.StudyInstanceUID = spec.study_uid
    ds.SeriesInstanceUID = spec.series_uid
    ds.StudyID = "1"
    ds.SeriesNumber = spec.number
    ds.AcquisitionNumber = spec.number
    ds.InstanceNumber = index + 1
    ds.ImagePositionPatient = [f"{v:.6f}"[:16] for v in position]
    ds.ImageOrientationPatient = [f"{v:.8f}"[:16] for v in spec.orientation]
    ds.FrameOfReferenceUID = uid(spec.study, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = shape[1:]
    ds.PixelSpacing = [f"{v:g}" for v in spacing[1:]]
    ds.BitsAllocated = 16
    ds.BitsStored = 16 if spec.modality == "CT" else 12
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = 0
    ds.WindowCenter, ds.WindowWidth = ("60", "360") if spec.modality == "CT" else ("400", "800")
    return ds


def _modality_attributes(ds: Dataset, spec: SeriesSpec) -> None:
    if spec.modality == "CT":
        ds.KVP = "120"
        ds.ConvolutionKernel = "B30f"
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = f"{spec.intercept:g}", "1", "HU"
        return
    ds.ScanningSequence = "SE" if spec.phase == "t2" else "GR"
    ds.SequenceVariant = "SP"
    ds.ScanOptions = ""
    ds.MRAcquisitionType = "2D" if spec.phase == "t2" else "3D"
    ds.RepetitionTime = "1200" if spec.phase == "t2" else "4"
    ds.EchoTime = "90" if spec.phase == "t2" else "2"
    ds.EchoTrainLength = "1"
    ds.MagneticFieldStrength = "1.5"


def write_series(
    folder: Path, spec: SeriesSpec, values: npt.NDArray[np.int16], spacing: tuple[float, float, float]
) -> list[Path]:
    """Write a series; `values` are HU or signal, stored with the intercept of `spec` in CT."""
    folder.mkdir(parents=True, exist_ok=True)
    intercept = spec.intercept if spec.modality == "CT" else 0.0
    shape = (values.shape[0], values.shape[1], values.shape[2])
    paths = []
    for k, ds in enumerate(slice_headers(spec, shape, spacing)):
        ds.PixelData = (values[k].astype(np.int32) - int(intercept)).astype("<u2").tobytes()
        if spec.edit is not None:
            spec.edit(k, ds)
        path = folder / f"{spec.name or spec.phase}_{k:03d}.dcm"
        write(ds, path)
        paths.append(path)
    return paths


def write(ds: Dataset, path: Path) -> None:
    """Write a data set as a DICOM file, Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    ds.file_meta = meta
    ds.save_as(path, enforce_file_format=True)


# ------------------------------------------------------------------ segmentation


@dataclass(frozen=True)
class SegSpec:
    """Which masks of the phantom become segments, with their codes; `masks` overrides the phantom's."""

    segments: tuple[tuple[str, Code, Code], ...] = (
        ("liver", ANATOMY, LIVER),
        ("tumour_1", ABNORMAL, NEOPLASM),
        ("tumour_2", ABNORMAL, NEOPLASM),
    )
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    name: str = "seg"
    manufacturer: str = "Readers"
    edit: Callable[[Dataset], None] | None = None


_DEFAULT_SEG = SegSpec()
WITH_VESSELS = SegSpec(
    segments=(
        *SegSpec().segments,
        ("aorta", ANATOMY, AORTA),
        ("portal_vein", ANATOMY, PORTAL_VEIN),
        ("kidney", ANATOMY, KIDNEY),
    )
)


def write_seg(path: Path, sources: list[Dataset], phantom: Phantom, spec: SegSpec | None = None) -> Path:
    """Write a binary SEG on a series (its data sets in the order of the masks' slices)."""
    spec = spec or SegSpec()
    masks = {**phantom.masks, **spec.masks}
    study = sources[0].StudyInstanceUID
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=k,
            segment_label=name.replace("_", " "),
            segmented_property_category=category,
            segmented_property_type=kind,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            tracking_uid=uid(study, spec.name, "tracking", name),
            tracking_id=name,
        )
        for k, (name, category, kind) in enumerate(spec.segments, 1)
    ]
    stacked = np.stack([masks[name] for name, _, _ in spec.segments], axis=-1).astype(np.uint8)
    seg = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=stacked,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=uid(study, spec.name, "series"),
        series_number=90,
        sop_instance_uid=uid(study, spec.name),
        instance_number=1,
        manufacturer=spec.manufacturer,
        manufacturer_model_name="Outliner",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
    )
    seg.ContentDate, seg.ContentTime = "20240302", "080000"
    if spec.edit is not None:
        spec.edit(seg)
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path, enforce_file_format=True)
    return path


def write_study(
    folder: Path,
    phases: tuple[str, ...] = ("arterial", "portal_venous"),
    modality: str = "CT",
    phantom: Phantom | None = None,
    seg: SegSpec | None = _DEFAULT_SEG,
) -> Path:
    """Write one study with a series for each phase, and a SEG drawn on the last of them.

    Returns
    -------
    Path
        `folder`; the series are in sub-folders named by phase, the SEG is ``seg.dcm``.
    """
    phantom = phantom or Phantom()
    for k, phase in enumerate(phases, 1):
        spec = SeriesSpec(phase=phase, modality=modality, number=k, study=folder.name)
        write_series(folder / phase, spec, image(phantom, phase), phantom.spacing_mm)
    if seg is not None:
        last = SeriesSpec(phase=phases[-1], modality=modality, number=len(phases), study=folder.name)
        sources = slice_headers(last, phantom.shape, phantom.spacing_mm)
        write_seg(folder / "seg.dcm", sources, phantom, seg)
    return folder


def restore_uids(source: Path, folder: Path) -> Path:
    """Copy one series whose UIDs were emptied by anonymisation, with new UIDs and untouched pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, path in enumerate(sorted(source.iterdir())):
        ds = pydicom.dcmread(path)
        ds.SOPClassUID = CTImageStorage
        ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(source.name), uid(source.name, "series")
        ds.SOPInstanceUID = uid(source.name, k)
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(folder / f"{k:03d}.dcm", enforce_file_format=True)
    return folder
