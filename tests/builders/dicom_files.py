"""Small data sets as scanners and workstations make them, and a sender for them; pydicom alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context

CT = UID("1.2.840.10008.5.1.4.1.1.2")
MR = UID("1.2.840.10008.5.1.4.1.1.4")
SEG = UID("1.2.840.10008.5.1.4.1.1.66.4")
XA = UID("1.2.840.10008.5.1.4.1.1.12.1")
COMPREHENSIVE_SR = UID("1.2.840.10008.5.1.4.1.1.88.33")

MODALITIES = {CT: "CT", MR: "MR", SEG: "SEG", XA: "XA", COMPREHENSIVE_SR: "SR"}


def uid_of(*names: object) -> str:
    """Return a UID that is always the same for the same names."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def data_set(sop_class: UID, study_uid: str, series_uid: str, number: int) -> Dataset:
    """Return identity and file meta of one object, without content."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid_of(study_uid, series_uid, number)
    ds.StudyInstanceUID = study_uid
    ds.SeriesInstanceUID = series_uid
    ds.Modality = MODALITIES[sop_class]
    ds.Manufacturer = "Builder"
    ds.PatientName = "Test^Patient"
    ds.PatientID = "T1"
    ds.PatientBirthDate = "19500101"
    ds.PatientSex = "O"
    ds.StudyDate = "20250102"
    ds.StudyTime = "101112"
    ds.AccessionNumber = ""
    ds.ReferringPhysicianName = ""
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.InstanceNumber = number
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def ct_slice(
    study_uid: str = "1.2.826.1", series_uid: str = "1.2.826.1.1", number: int = 1, rows: int = 64
) -> Dataset:
    """Return one axial CT slice, `rows` x `rows`, 2 mm below the next one."""
    ds = data_set(CT, study_uid, series_uid, number)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.FrameOfReferenceUID = uid_of(study_uid, "frame of reference")
    ds.ImagePositionPatient = [-100.0, -100.0, 2.0 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [0.8, 0.8]
    ds.SliceThickness = 2.0
    ds.KVP = 120
    ds.RescaleIntercept = -1024
    ds.RescaleSlope = 1
    _add_pixels(ds, rows, number)
    return ds


def mr_slice(study_uid: str, series_uid: str, number: int = 1, rows: int = 64) -> Dataset:
    """Return one axial MR slice."""
    ds = data_set(MR, study_uid, series_uid, number)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    ds.ScanningSequence = "GR"
    ds.SequenceVariant = "SP"
    ds.ImagePositionPatient = [-100.0, -100.0, 3.0 * number]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [1.0, 1.0]
    ds.SliceThickness = 3.0
    _add_pixels(ds, rows, number)
    return ds


def plain_object(sop_class: UID, study_uid: str, series_uid: str, number: int = 1) -> Dataset:
    """Return an object of any class with a few bytes of content."""
    ds = data_set(sop_class, study_uid, series_uid, number)
    if sop_class == COMPREHENSIVE_SR:
        ds.CompletionFlag = "COMPLETE"
        ds.VerificationFlag = "UNVERIFIED"
        ds.ValueType = "CONTAINER"
    else:
        _add_pixels(ds, 16, number)
    return ds


def _add_pixels(ds: Dataset, rows: int, seed: int) -> None:
    ds.Rows = rows
    ds.Columns = rows
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = 16
    ds.BitsStored = 12
    ds.HighBit = 11
    ds.PixelRepresentation = 0
    pixels = np.random.default_rng(seed).integers(0, 4096, (rows, rows), dtype=np.uint16)
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"


def ct_series(
    n: int, study_uid: str = "1.2.826.1", series_uid: str = "1.2.826.1.1", rows: int = 64
) -> list[Dataset]:
    """Return `n` slices of one series, the lowest first."""
    return [ct_slice(study_uid, series_uid, number, rows) for number in range(1, n + 1)]


@dataclass(frozen=True)
class Called:
    """Whom to send to, and as whom."""

    port: int
    called: str = "HEPATOCAST"
    calling: str = "SENDER"


def send(data_sets: Iterable[Dataset], to: Called) -> list[int]:
    """Send over one association; return the statuses, 0 for success.

    Raises
    ------
    ConnectionError
        No association.
    """
    objects: Sequence[Dataset] = list(data_sets)
    ae = AE(ae_title=to.calling)
    ae.dimse_timeout = 30
    pairs = {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in objects}
    contexts = [build_context(sop_class, syntax) for sop_class, syntax in sorted(pairs)]
    association = ae.associate("127.0.0.1", to.port, contexts=contexts, ae_title=to.called)
    if not association.is_established:
        raise ConnectionError("rejected" if association.is_rejected else "no association")
    try:
        return [association.send_c_store(ds).get("Status", -1) for ds in objects]
    finally:
        association.release()
