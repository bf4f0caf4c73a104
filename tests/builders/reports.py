"""Reports of a study: structured reports with coded numbers and texts, and encapsulated PDFs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fpdf import FPDF
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian

from tests.builders.studies import uid

BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
XA_IMAGE = "1.2.840.10008.5.1.4.1.1.12.1"


@dataclass(frozen=True)
class Person:
    """Whose study it is, and of which day."""

    study: str = "1.2.826.0.1.3680043.8.498.1"
    name: str = "DOE^JOHN"
    patient_id: str = "MRN-SECRET-77"
    issuer: str = ""
    study_date: str = "20260115"


def dicom_object(sop_class: str, modality: str, person: Person, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid(sop_class, number)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = person.study, uid("series", sop_class, number)
    ds.Modality, ds.StudyDate = modality, person.study_date
    ds.PatientName, ds.PatientID, ds.Manufacturer = person.name, person.patient_id, "Somebody"
    if person.issuer:
        ds.IssuerOfPatientID = person.issuer
    return ds


def written(ds: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def code(value: str, scheme: str, meaning: str = "something") -> DicomSequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return DicomSequence([item])


def num(
    loinc: str, value: str, unit: str, observed: str = "", scheme: str = "LN", units: str = "UCUM"
) -> Dataset:
    """Return a NUM item."""
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "NUM"
    item.ConceptNameCodeSequence = code(loinc, scheme)
    measured = Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = code(unit, units)
    item.MeasuredValueSequence = DicomSequence([measured])
    if observed:
        item.ObservationDateTime = observed
    return item


def said(words: str) -> Dataset:
    """Return a TEXT item."""
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", words
    item.ConceptNameCodeSequence = code("121071", "DCM", "Finding")
    return item


def container(*items: Dataset) -> Dataset:
    """Return a CONTAINER item."""
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ContinuityOfContent = "CONTAINS", "CONTAINER", "SEPARATE"
    item.ContentSequence = DicomSequence(items)
    return item


def structured_report(
    items: Sequence[Dataset],
    person: Person | None = None,
    sop_class: str = COMPREHENSIVE_SR,
    content_date: str = "20260115",
    number: int = 1,
) -> FileDataset:
    ds = dicom_object(sop_class, "SR", person or Person(), number)
    ds.ContentDate, ds.ContentTime = content_date, "120000"
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = code("11502-2", "LN", "Laboratory report")
    ds.ContentSequence = DicomSequence(items)
    return ds


def encapsulated_pdf(words: str, person: Person | None = None, content: bytes | None = None) -> FileDataset:
    ds = dicom_object(ENCAPSULATED_PDF, "DOC", person or Person(), 1)
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", "Operation note"
    document = pdf(words) if content is None else content
    ds.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    return ds


def pdf(words: str) -> bytes:
    page = FPDF()
    page.add_page()
    page.set_font("Helvetica", size=12)
    page.multi_cell(0, text=words)
    return bytes(page.output())


def angiogram(person: Person | None = None, number: int = 1) -> FileDataset:
    """Return the header of a digital subtraction angiography, without pixels."""
    ds = dicom_object(XA_IMAGE, "XA", person or Person(), number)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    ds.SeriesDescription = "DSA common hepatic artery"
    ds.Rows = ds.Columns = 1024
    ds.NumberOfFrames = 24
    return ds
