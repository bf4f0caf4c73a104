"""The clinical record of a study in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from inference.case import ClinicalRecord
from inference.clinical.files import ClinicalTable, lookup, read_clinical_file

_IDENTIFIERS = ["StudyInstanceUID", "IssuerOfPatientID", "PatientID"]


def record_of(table: ClinicalTable, header: Dataset) -> ClinicalRecord:
    """Return the record of the study, else of the patient, that a header names."""
    study, issuer, patient = (str(header.get(keyword, "") or "").strip() for keyword in _IDENTIFIERS)
    return lookup(table, study, issuer, patient)


def clinical_record(clinical: Path | None, files: Iterable[Path]) -> ClinicalRecord:
    """Read a clinical file and return the record of the study that `files` belong to.

    Parameters
    ----------
    clinical : Path or None
        None: an empty record.
    files : iterable of Path
        Files of one study; the first that is a DICOM object identifies it.

    Raises
    ------
    ClinicalError
        The clinical file is refused; see `inference.clinical.files.read_clinical_file`.
    """
    if clinical is None:
        return ClinicalRecord()
    table = read_clinical_file(clinical)
    for path in files:
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(_IDENTIFIERS))
        except (InvalidDicomError, OSError):
            continue
        return record_of(table, header)
    return ClinicalRecord()
