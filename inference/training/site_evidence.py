"""From a site's laboratory values, reports and angiographies to the evidence of a cohort.

A patient's values are read by the same code as those of a study that arrives, with one rule more: what was
not known before the treatment is left out. Of laboratory values and of the site's own reports the day of
the baseline study is the last that counts; what lies in the baseline study itself, structured reports,
PDFs and angiographies, must carry a date before the start of treatment.
"""

from __future__ import annotations

import csv
import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from inference.case import DatedValue, TextToken
from inference.clinical.longitudinal import LongitudinalValues, as_date
from inference.clinical.sources.laboratory import LaboratoryFile
from inference.clinical.sources.report_texts import ReportTexts, identifiers
from inference.clinical.sources.study import BROKEN_FILE, StudyKeys, date_of, study_objects
from inference.clinical.text_encoder import TextEncoder, checked_vector, encoder_of, scrubbed
from inference.clinical_settings import LaboratoryFileSettings, ReportTextsSettings
from inference.errors import ClinicalError, TrainingDataError
from inference.imaging.attributes import text
from inference.models.angiography import ENCODER, describe_angiographies
from inference.models.protocols import Progress
from inference.training.cohort_evidence import CohortEvidence, PatientVectors, Vectors
from inference.training.site_archive import DAYS_PER_MONTH, Key, MatchedPatient

_log = logging.getLogger(__name__)

REPORT_COLUMNS: Mapping[str, str] = {
    "patient_id": "Patient ID (0010,0020) as in the DICOM files",
    "issuer": "Issuer of Patient ID (0010,0021); empty when the files have none",
    "date": "day on which the text was written, YYYY-MM-DD",
    "file": "text file in UTF-8, relative to the table",
}
"""Columns of the table of a site's reports and operation notes; `issuer` may be absent."""
_ANGIOGRAPHY = "XA"
_DATES = ("ContentDate", "AcquisitionDate")
_TAGS = ("Modality", *_DATES)


@dataclass(frozen=True, slots=True)
class EvidenceOrder:
    """What a site hands in beside studies and table; all of it may be absent.

    Attributes
    ----------
    laboratory : Path or None
        CSV of dated values, see `inference.clinical.sources.laboratory`.
    reports : Path or None
        CSV of `REPORT_COLUMNS`.
    text_encoder : str
        Of the reports, those in the studies included; empty: no text is read.
    """

    laboratory: Path | None = None
    reports: Path | None = None
    text_encoder: str = ""


@dataclass(frozen=True, slots=True)
class _Report:
    date: dt.date
    file: Path


def collect_evidence(
    patients: Sequence[tuple[str, MatchedPatient]], order: EvidenceOrder, progress: Progress
) -> CohortEvidence:
    """Read what is known of patients before their treatment, by pseudonym.

    Raises
    ------
    TrainingDataError
        A file is refused; the message names its row and never a patient.
    """
    try:
        return _collected(patients, order, progress)
    except ClinicalError as error:
        raise TrainingDataError(str(error)) from error


def _collected(
    patients: Sequence[tuple[str, MatchedPatient]], order: EvidenceOrder, progress: Progress
) -> CohortEvidence:
    laboratory = None
    if order.laboratory is not None:
        settings = LaboratoryFileSettings(
            kind="laboratory_file", name="laboratory values", path=order.laboratory
        )
        laboratory = LaboratoryFile(settings)
    encoder = encoder_of(order.text_encoder) if order.text_encoder else None
    reports = {} if order.reports is None else _reports(order.reports)
    dated: dict[str, tuple[DatedValue, ...]] = {}
    texts: dict[str, Vectors] = {}
    runs: dict[str, Vectors] = {}
    for number, (patient_id, matched) in enumerate(patients, start=1):
        study = _Study.of(matched)
        if laboratory is not None and (values := study.laboratory(laboratory)):
            dated[patient_id] = values
        if encoder is not None and (vectors := study.texts(encoder, reports.get(matched.key, ()), order)):
            texts[patient_id] = np.array(vectors, dtype=np.float32)
        if (found := describe_angiographies(study.angiographies())) is not None:
            runs[patient_id] = found.vectors
        progress("laboratory values, reports and angiographies", number / len(patients))
    _log.info("%d patients with laboratory values, %d with texts", len(dated), len(texts))
    return CohortEvidence(
        dated,
        PatientVectors(encoder.name, texts) if encoder is not None and texts else PatientVectors(),
        PatientVectors(ENCODER, runs) if runs else PatientVectors(),
    )


@dataclass(frozen=True, slots=True)
class _Study:
    """The baseline study of one patient and the day on which it was made."""

    matched: MatchedPatient
    day: dt.date

    @classmethod
    def of(cls, matched: MatchedPatient) -> _Study:
        days = round(matched.baseline.months * DAYS_PER_MONTH)
        return cls(matched, matched.rows.treatment_start + dt.timedelta(days=days))

    def laboratory(self, source: LaboratoryFile) -> tuple[DatedValue, ...]:
        """Return the values up to the day of the study."""
        issuer, patient = self.matched.key
        uid = self.matched.baseline.study.study_instance_uid
        record = source.record_for(StudyKeys(uid, issuer, patient, self.day))
        return LongitudinalValues(record.dated).landmark.values

    def texts(
        self, encoder: TextEncoder, reports: Sequence[_Report], order: EvidenceOrder
    ) -> list[tuple[float, ...]]:
        """Return the vectors of reports in the study, and of those of the site up to its day."""
        settings = ReportTextsSettings(kind="report_texts", encoder=order.text_encoder)
        files = [p for p in self.matched.baseline.study.files if self._before_treatment(_header(p))]
        tokens: tuple[TextToken, ...] = (
            ReportTexts(settings, study_objects(files)).record_for(StudyKeys()).texts
        )
        vectors = [token.vector for token in tokens]
        names = self._identifiers()
        for report in (r for r in reports if r.date <= self.day):
            plain = scrubbed(_words(report.file), names)
            if plain.strip():
                vectors.append(checked_vector(encoder.encode(plain), encoder.name))
        return vectors

    def angiographies(self) -> Iterator[Path]:
        """Yield the files of the study's angiographies from before the treatment."""
        for path in self.matched.baseline.study.files:
            header = _header(path)
            if text(header, "Modality") == _ANGIOGRAPHY and self._before_treatment(header):
                yield path

    def _before_treatment(self, header: Dataset) -> bool:
        """Whether an object says that it is from before the treatment; one without a date does not."""
        dates = [date_of(text(header, keyword)) for keyword in _DATES]
        known = [date for date in dates if date is not None]
        return bool(known) and max(known) < self.matched.rows.treatment_start

    def _identifiers(self) -> tuple[str, ...]:
        for path in self.matched.baseline.study.files:
            try:
                return identifiers(dcmread(path, stop_before_pixels=True))
            except BROKEN_FILE:
                continue
        return self.matched.key


def _header(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except BROKEN_FILE:
        return Dataset()


def _words(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingDataError(f"a report cannot be read as UTF-8 text ({type(error).__name__})") from error


def _reports(path: Path) -> dict[Key, list[_Report]]:
    """Read the table of a site's reports."""
    found: dict[Key, list[_Report]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                where = f"The table of reports, row {number}"
                cells = {name: (row.get(name) or "").strip() for name in REPORT_COLUMNS}
                if missing := [name for name in ("patient_id", "date", "file") if not cells[name]]:
                    raise TrainingDataError(f"{where}: {missing[0]} is not given")
                file = path.parent / cells["file"]
                if not file.is_file():
                    raise TrainingDataError(f"{where}: the file is not there")
                report = _Report(as_date(cells["date"], where), file)
                found[cells["issuer"], cells["patient_id"]].append(report)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"the table of reports cannot be read: {type(error).__name__}") from error
    return dict(found)
