"""From settings to sources, and from sources to the record of a study."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.case import ClinicalRecord, ClinicalValue, DatedValue, TextToken
from inference.clinical.sources.attributes import DicomAttributes
from inference.clinical.sources.files import FileRecords
from inference.clinical.sources.laboratory import LaboratoryFile
from inference.clinical.sources.report_texts import ReportTexts
from inference.clinical.sources.sql import SqlRecords
from inference.clinical.sources.structured_reports import StructuredReports
from inference.clinical.sources.study import ClinicalSource, StudyKeys, StudyObject, keys_of, study_objects
from inference.clinical_settings import ClinicalSettings
from inference.errors import InferenceError

_log = logging.getLogger(__name__)

SOURCES: Mapping[str, Callable[[Any, Sequence[StudyObject]], ClinicalSource]] = {
    "file": lambda settings, _objects: FileRecords(settings),
    "laboratory_file": lambda settings, _objects: LaboratoryFile(settings),
    "sql": lambda settings, _objects: SqlRecords(settings),
    "dicom_attributes": DicomAttributes,
    "structured_reports": StructuredReports,
    "report_texts": ReportTexts,
}
"""What makes a source of its settings and the objects of the study, by ``kind``."""


def study_record(settings: ClinicalSettings, files: Iterable[Path]) -> ClinicalRecord:
    """Return what the configured sources have of the study that `files` belong to.

    Raises
    ------
    inference.errors.ClinicalError
        A source refuses a value.
    inference.errors.ClinicalSourceAway
        A source does not answer.
    """
    objects = study_objects(files)
    sources = [SOURCES[entry.kind](entry, objects) for entry in settings.sources]
    return gather(sources, keys_of(objects))


def gather(sources: Sequence[ClinicalSource], keys: StudyKeys) -> ClinicalRecord:
    """Ask all sources; of each variable, and of each variable and day, the first that has it counts.

    Where a later source says otherwise the log names the variable and both sources, and no value.
    """
    values: dict[str, ClinicalValue] = {}
    dated: dict[tuple[str, int], DatedValue] = {}
    texts: list[TextToken] = []
    for source in sources:
        record = source.record_for(keys)
        for name, value in record.values.items():
            first = values.setdefault(name, value)
            if not _agree(first.value, value.value):
                _log.warning(
                    "clinical sources disagree on %s: that of %r is used, not that of %r",
                    name,
                    first.source,
                    source.name,
                )
        for measured in record.dated:
            dated.setdefault((measured.name, measured.days), measured)
        texts += record.texts
    ordered = tuple(dated[key] for key in sorted(dated))
    return ClinicalRecord(values, ordered, tuple(texts))


def source_states(settings: ClinicalSettings) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each source, and what is wrong with it or None.

    Files are read whole, so that every wrong row shows; a database is asked for no row.
    """
    for entry in settings.sources:
        try:
            source = SOURCES[entry.kind](entry, ())
            if isinstance(source, SqlRecords):
                source.probe()
            else:
                source.record_for(StudyKeys())
        except InferenceError as error:
            yield entry.name, str(error)
        else:
            yield entry.name, None


def _agree(first: float | str | bool, second: float | str | bool) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-3, abs_tol=1e-9)
    return first == second
