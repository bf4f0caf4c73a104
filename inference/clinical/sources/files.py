"""A JSON or CSV file as a source."""

from __future__ import annotations

from inference.case import ClinicalRecord
from inference.clinical.files import lookup, read_clinical_file
from inference.clinical.sources.study import StudyKeys
from inference.clinical_settings import FileSettings


class FileRecords:
    """A file of records by study or patient; it is read anew for every study, so that it may be replaced."""

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings

    @property
    def name(self) -> str:
        """Name in the configuration."""
        return self._settings.name

    def record_for(self, keys: StudyKeys) -> ClinicalRecord:
        """Return the record of the study, else of its patient."""
        table = read_clinical_file(self._settings.path, self.name)
        return lookup(table, keys.study_instance_uid, keys.issuer, keys.patient_id)
