"""Texts of the study's reports as vectors: structured reports, and PDFs with text in them.

Words are read, freed of the patient's names and numbers, encoded and forgotten.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from inference.case import ClinicalRecord, TextToken
from inference.clinical.sources.structured_reports import items, reports
from inference.clinical.sources.study import BROKEN_FILE, StudyKeys, StudyObject
from inference.clinical.text_encoder import checked_vector, encoder_of, scrubbed
from inference.clinical_settings import ENCAPSULATED_PDF, ReportTextsSettings
from inference.imaging.attributes import text
from inference.provenance import is_made_here

_log = logging.getLogger(__name__)

MAXIMUM_PDF_BYTES = 32 * 1024**2
MAXIMUM_PAGES = 50
MAXIMUM_CHARACTERS = 200_000
"""Beyond these a document is cut off: no report on one patient is longer."""

IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientBirthName",
    "PatientMotherBirthName",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "PerformingPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "OperatorsName",
    "InstitutionName",
    "InstitutionAddress",
)
"""Attributes whose words are removed from a text before it is encoded."""


class ReportTexts:
    """Texts among the objects of a study; those of this product are no source."""

    def __init__(self, settings: ReportTextsSettings, objects: Sequence[StudyObject]) -> None:
        self._settings = settings
        self._objects = objects
        self._encoder = encoder_of(settings.encoder)

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._settings.name

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return a vector for each report that has words; `keys` are those of the objects already.

        Raises
        ------
        inference.errors.ModelError
            The encoder of the site did not give a vector.
        """
        tokens = []
        for kind, header, words in self._documents():
            plain = scrubbed(words, identifiers(header))
            if plain.strip():
                vector = checked_vector(self._encoder.encode(plain), self._encoder.name)
                tokens.append(TextToken(kind, self._encoder.name, vector))
        return ClinicalRecord(texts=tuple(tokens))

    def _documents(self) -> Iterator[tuple[str, Dataset, str]]:
        for report in reports(self._objects):
            yield "structured report", report, report_text(report)
        for found in self._objects:
            if found.sop_class_uid == ENCAPSULATED_PDF and not is_made_here(found.header):
                document = _read(found)
                if document is not None:
                    yield "PDF report", document, pdf_text(document)


def report_text(report: Dataset) -> str:
    """Return the TEXT items of a structured report, one on a line."""
    texts = (text(item, "TextValue") for item in items(report) if text(item, "ValueType") == "TEXT")
    return "\n".join(texts)[:MAXIMUM_CHARACTERS]


def pdf_text(document: Dataset) -> str:
    """Return the text of an encapsulated PDF; a scan, or a PDF that cannot be read, has none."""
    content = bytes(document.get("EncapsulatedDocument") or b"")
    if not 0 < len(content) <= MAXIMUM_PDF_BYTES:
        return ""
    try:
        pages = PdfReader(io.BytesIO(content)).pages
        count = min(len(pages), MAXIMUM_PAGES)
        return "\n".join(pages[number].extract_text() for number in range(count))[:MAXIMUM_CHARACTERS]
    except (PyPdfError, RecursionError, *BROKEN_FILE):
        _log.warning("a PDF of the study cannot be read and was passed over")
        return ""


def _read(found: StudyObject) -> Dataset | None:
    try:
        return dcmread(found.path)
    except BROKEN_FILE:
        _log.warning("a PDF of the study is damaged and was passed over")
        return None


def identifiers(header: Dataset) -> tuple[str, ...]:
    """Return the values of a header that identify people, for `inference.clinical.text_encoder.scrubbed`."""
    given = (header.get(keyword) for keyword in IDENTIFYING)
    each = (value if isinstance(value, MultiValue) else [value] for value in given if value)
    return tuple(str(value) for values in each for value in values)
