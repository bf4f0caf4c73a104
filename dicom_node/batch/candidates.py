"""Which archived studies a batch is about: by query, or by a list of UIDs and accession numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dicom_node.batch.archive import Answer, Archive, count
from dicom_node.errors import ConfigurationError
from dicom_node.intake.header import UID_GRAMMAR, UID_LENGTH

_DATE = re.compile(r"\d{8}")
FEWEST_DOTS = 2
"""An accession number may have a dot in it; a Study Instance UID has more."""

ReportFraction = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a study must be to be a candidate; empty means anything.

    Attributes
    ----------
    modalities : tuple of str
        The study has a series of at least one of these.
    first_date, last_date : str
        Study Date, YYYYMMDD, both included.
    description : str
        Study Description; * and ? are wild cards.
    body_part : str
        Body Part Examined of at least one series. A study whose series do not tell it is kept.
    """

    modalities: tuple[str, ...] = ()
    first_date: str = ""
    last_date: str = ""
    description: str = ""
    body_part: str = ""

    def __post_init__(self) -> None:
        for date in (self.first_date, self.last_date):
            if date and not _DATE.fullmatch(date):
                raise ConfigurationError(f"{date!r} is no date; write YYYYMMDD")
        if self.first_date and self.last_date and self.first_date > self.last_date:
            raise ConfigurationError("the first date is after the last one")

    def keys(self) -> dict[str, str]:
        """Return the matching keys of a query at study level."""
        keys: dict[str, str] = {}
        if self.first_date or self.last_date:
            keys["StudyDate"] = f"{self.first_date}-{self.last_date}"
        if self.description:
            keys["StudyDescription"] = self.description
        if len(self.modalities) == 1:
            keys["ModalitiesInStudy"] = self.modalities[0]
        return keys

    def excludes(self, series: Sequence[Answer]) -> str:
        """Return why a study with these series is not meant, or nothing."""
        modalities = {s.get("Modality", "") for s in series}
        if self.modalities and not modalities & set(self.modalities):
            return f"no series of {', '.join(self.modalities)}"
        parts = {s["BodyPartExamined"].casefold() for s in series if s.get("BodyPartExamined")}
        if self.body_part and parts and self.body_part.casefold() not in parts:
            return f"no series of body part {self.body_part}"
        return ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One study of the archive with its series.

    `excluded` says why the filters do not mean it; `absent` that the archive has no such study.
    """

    study: Answer
    series: tuple[Answer, ...]
    excluded: str = ""
    absent: bool = False

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return self.study["StudyInstanceUID"]


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One line of a list: its number, and a Study Instance UID or an accession number."""

    line: int
    value: str

    @property
    def is_uid(self) -> bool:
        """Whether it is a Study Instance UID."""
        grammar = UID_GRAMMAR.fullmatch(self.value) is not None
        return grammar and len(self.value) <= UID_LENGTH and self.value.count(".") >= FEWEST_DOTS

    @property
    def keys(self) -> dict[str, str]:
        """Matching keys of a query for it."""
        return {"StudyInstanceUID" if self.is_uid else "AccessionNumber": self.value}


def read_list(text: str) -> tuple[ListEntry, ...]:
    """Return the entries of a list: the first column of each line, without empty lines and # comments.

    Raises
    ------
    ConfigurationError
        An entry has a character that would make the query match others too.
    """
    columns = (
        ListEntry(number, re.split(r"[,;\t]", line, maxsplit=1)[0].strip().strip('"'))
        for number, line in enumerate(text.lstrip("\ufeff").splitlines(), 1)
    )
    entries = tuple(e for e in columns if e.value and not e.value.startswith("#"))
    for entry in entries:
        if set(entry.value) & set("*?\\"):
            raise ConfigurationError(
                f"line {entry.line} of the list is neither a UID nor an accession number"
            )
    return entries


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates, and the lines of a list for which the archive has no study."""

    candidates: tuple[Candidate, ...]
    lines_without_study: tuple[int, ...] = ()


def find_by_filters(archive: Archive, filters: Filters, report: ReportFraction) -> Found:
    """Return the studies of an archive that match the filters, each once."""
    studies = {s["StudyInstanceUID"]: s for s in archive.studies(filters.keys()) if "StudyInstanceUID" in s}
    candidates = []
    for done, study in enumerate(studies.values()):
        report("asking the archive", done / len(studies))
        candidates.append(_candidate(archive, study, filters))
    return Found(tuple(candidates))


def find_listed(
    archive: Archive, entries: Sequence[ListEntry], filters: Filters, report: ReportFraction
) -> Found:
    """Return the studies that a list names, each once; an accession number may have several.

    Raises
    ------
    ConfigurationError
        The archive has none of them, which speaks for a wrong archive or an AE title unknown there.
    """
    candidates: dict[str, Candidate] = {}
    without: list[int] = []
    for done, entry in enumerate(entries):
        report("asking the archive", done / len(entries))
        studies = [s for s in archive.studies(entry.keys) if "StudyInstanceUID" in s]
        if not studies:
            without.append(entry.line)
        for study in studies:
            if study["StudyInstanceUID"] not in candidates:
                candidates[study["StudyInstanceUID"]] = _candidate(archive, study, filters)
    if entries and not candidates:
        raise ConfigurationError(
            "the archive has none of the listed studies; is it the right one, and is our AE title "
            "known there?"
        )
    missing = {e.value for e in entries if e.is_uid and e.line in without} - candidates.keys()
    absent = [Candidate({"StudyInstanceUID": uid}, (), absent=True) for uid in sorted(missing)]
    return Found((*candidates.values(), *absent), tuple(without))


def _candidate(archive: Archive, study: Answer, filters: Filters) -> Candidate:
    uid = study["StudyInstanceUID"]
    series = tuple(_counted(archive, uid, s) for s in archive.series(uid) if "SeriesInstanceUID" in s)
    return Candidate(study, series, filters.excludes(series))


def _counted(archive: Archive, study: str, series: Answer) -> Answer:
    """Return a series with its number of instances, counted where the archive does not tell it."""
    if count(series, "NumberOfSeriesRelatedInstances") is not None:
        return series
    instances = archive.instances(study, series["SeriesInstanceUID"])
    return {**series, "NumberOfSeriesRelatedInstances": str(len(instances))}
