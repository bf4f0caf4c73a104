"""The PDF as an Encapsulated PDF object (PS3.3 A.45.1, C.24.2)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from inference.results import StudyResults
from reporting import codes
from reporting.common import SeriesOfNode, new_dataset, reference, set_series, synthesizing_equipment
from reporting.context import Context
from reporting.pdf_document import pdf_bytes

SERIES_NUMBER = 9820


def build(results: StudyResults, context: Context) -> Iterator[Dataset]:
    """Yield the document as one object."""
    ds = new_dataset(results, context, EncapsulatedPDFStorage, context.uids.derive("pdf"))
    series = SeriesOfNode(context.uids.derive("pdf series"), SERIES_NUMBER, "AI VIRTUAL forecast (PDF)")
    set_series(ds, series, "DOC")
    ds.SyntheticData = "YES"
    ds.ConversionType = "SYN"
    ds.AcquisitionDateTime = ""
    # The text names no patient; it would be YES if a name stood in it (PS3.3 C.24.2).
    ds.BurnedInAnnotation = "NO"
    ds.DocumentTitle = "Forecast of hepatocellular carcinoma under treatment"
    ds.ConceptNameCodeSequence = [codes.item(codes.DIAGNOSTIC_IMAGING_STUDY)]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.ContributingEquipmentSequence = [synthesizing_equipment(context, "Wrote the document")]
    primary = results.baseline.primary.headers[0]
    source = reference(primary.SOPClassUID, primary.SOPInstanceUID)
    source.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE)]
    ds.SourceInstanceSequence = [source]
    data = pdf_bytes(results, context)
    ds.EncapsulatedDocumentLength = len(data)
    ds.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    yield ds
