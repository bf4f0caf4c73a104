"""What an archive has: one question, asked by C-FIND, by QIDO-RS or over an Orthanc's own interface.

Answers are plain text by DICOM keyword, several values joined by backslashes; a keyword without a value is
left out, because an archive that does not know an attribute says the same as one that has it empty. Names
and IDs of patients are never asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import pyorthanc
import requests
from dicomweb_client.api import DICOMwebClient
from httpx import HTTPError
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.batch.ways import FindBy
from dicom_node.errors import ConfigurationError, PeerRejected, TransientError
from dicom_node.network.dicomweb import REFUSED
from dicom_node.network.query import PeerQuery, query_identifier
from dicom_node.settings import PeerSettings

Answer = Mapping[str, str]
"""DICOM keyword to value."""

STUDY_KEYS = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyDescription",
    "ModalitiesInStudy",
    "NumberOfStudyRelatedInstances",
)
SERIES_KEYS = (
    "SeriesInstanceUID",
    "Modality",
    "SeriesDescription",
    "BodyPartExamined",
    "NumberOfSeriesRelatedInstances",
    "Manufacturer",
    "ProtocolName",
    "SeriesDate",
    "StationName",
)
INSTANCE_KEYS = ("SOPInstanceUID", "SOPClassUID")


class Archive(Protocol):
    """An archive that is asked. All raise `TransientError` or `PeerRejected` when it does not answer."""

    def studies(self, keys: Mapping[str, str]) -> Sequence[Answer]:
        """Return the studies whose attributes match `keys` (PS3.4 C.2.2.2), with `STUDY_KEYS`."""
        ...

    def series(self, study: str) -> Sequence[Answer]:
        """Return the series of a study, with `SERIES_KEYS`."""
        ...

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        """Return SOP Instance UID to SOP Class UID (empty if the archive does not say)."""
        ...


@contextmanager
def asking(find_by: FindBy, peer: PeerSettings, our_ae_title: str) -> Iterator[Archive]:
    """Yield an archive to ask; not for two threads.

    Raises
    ------
    ConfigurationError
        The peer's settings do not say how it is asked in this way.
    TransientError, PeerRejected
        It does not answer.
    """
    if find_by is FindBy.C_FIND:
        with PeerQuery(peer, our_ae_title).finding() as find:
            yield DimseArchive(find)
    elif find_by is FindBy.QIDO_RS:
        url = _needed(peer.dicomweb_url, peer, "dicomweb_url", find_by)
        with requests.Session() as session:
            session.auth = _plain_wild_cards
            timeout = (peer.association_timeout_s, peer.dimse_timeout_s)
            client = DICOMwebClient(url=url, session=session, timeout=timeout)
            client.set_http_retry_params(retry=False)
            yield WebArchive(client, peer.name)
    else:
        url = _needed(peer.orthanc_url, peer, "orthanc_url", find_by)
        with pyorthanc.Orthanc(url, timeout=peer.dimse_timeout_s) as client:
            yield OrthancArchive(client, peer.name)


def _plain_wild_cards(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Leave * and ? of a query as they are, which RFC 3986 allows."""
    path, mark, query = (request.url or "").partition("?")
    request.url = path + mark + query.replace("%2A", "*").replace("%3F", "?")
    return request


def _needed(value: str | None, peer: PeerSettings, setting: str, find_by: FindBy) -> str:
    if value is None:
        raise ConfigurationError(f"peer {peer.name} has no {setting}, which {find_by} needs")
    return value


def count(answer: Answer, keyword: str) -> int | None:
    """Return a number of an answer, or None where the archive does not say."""
    text = answer.get(keyword, "")
    return int(text) if text.isdigit() else None


# ------------------------------------------------------------------ C-FIND


def _text(value: Any) -> str:
    if isinstance(value, (MultiValue, list, tuple)):
        return "\\".join(map(str, value))
    return str(value)


def _answer(ds: Dataset, keywords: Sequence[str]) -> Answer:
    return {k: _text(ds.get(k)) for k in keywords if ds.get(k) not in (None, "")}


@dataclass(frozen=True)
class DimseArchive:
    """An archive that is asked by C-FIND (Study Root) over one association."""

    find: Callable[[Dataset], Sequence[Dataset]]

    def _ask(self, level: str, keys: Mapping[str, str], keywords: Sequence[str]) -> list[Answer]:
        identifier = query_identifier(level, **{**dict.fromkeys(keywords, ""), **keys})
        return [_answer(found, keywords) for found in self.find(identifier)]

    def studies(self, keys: Mapping[str, str]) -> Sequence[Answer]:
        """Return the studies that match."""
        return self._ask("STUDY", keys, STUDY_KEYS)

    def series(self, study: str) -> Sequence[Answer]:
        """Return the series of a study."""
        return self._ask("SERIES", {"StudyInstanceUID": study}, SERIES_KEYS)

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        """Return the classes of a series' instances."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        return _classes(self._ask("IMAGE", keys, INSTANCE_KEYS))


def _classes(answers: Sequence[Answer]) -> Mapping[str, str]:
    return {a["SOPInstanceUID"]: a.get("SOPClassUID", "") for a in answers if "SOPInstanceUID" in a}


# ------------------------------------------------------------------ QIDO-RS

_NOT_PLAIN = re.compile(r"[^\w.*?-]", re.ASCII)
"""What would be encoded in a URL. Orthanc 1.10 does not decode it, so a wild card is asked in its place."""

Page = Callable[[int], Sequence[Mapping[str, Any]]]
"""Returns the answers from an offset on."""


def _matches(answer: Answer, patterns: Mapping[str, str]) -> bool:
    """Whether an answer has what was meant, where a wider question was asked."""
    return all(
        fnmatchcase(answer.get(k, "").casefold(), p.casefold().replace("[", "[[]"))
        for k, p in patterns.items()
    )


@dataclass(frozen=True)
class WebArchive:
    """An archive that is asked by QIDO-RS (PS3.18 section 10.6)."""

    client: DICOMwebClient
    name: str

    def _ask(self, page: Page, keywords: Sequence[str]) -> list[Answer]:
        """Ask page by page until one brings nothing new: archives limit how much they answer at once."""
        wanted = {f"{tag_for_keyword(k):08X}": k for k in keywords}
        found: dict[str, Answer] = {}
        offset = 0
        while True:
            with self._errors():
                answers = page(offset)
            before = len(found)
            for item in answers:
                known = {tag: value for tag, value in item.items() if tag in wanted}
                answer = _answer(Dataset.from_json(known), keywords)
                found.setdefault(answer.get(keywords[0], ""), answer)
            offset += len(answers)
            if len(found) == before:
                found.pop("", None)
                return list(found.values())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in REFUSED:
                raise PeerRejected(f"{self.name}: QIDO-RS {REFUSED[status]} (status {status})") from error
            raise TransientError(f"{self.name} does not answer QIDO-RS (status {status})") from error
        except (requests.RequestException, ValueError) as error:
            raise TransientError(f"{self.name} does not answer QIDO-RS") from error

    def studies(self, keys: Mapping[str, str]) -> Sequence[Answer]:
        """Return the studies that match."""
        plain = {k: _NOT_PLAIN.sub("?", value) for k, value in keys.items()}

        def page(offset: int) -> Sequence[Mapping[str, Any]]:
            return list(
                self.client.search_for_studies(
                    offset=offset, fields=(*STUDY_KEYS, *plain), search_filters=plain
                )
            )

        wider = {k: keys[k] for k in keys if plain[k] != keys[k]}
        answers = self._ask(page, (*STUDY_KEYS, *wider))
        return [a for a in answers if _matches(a, wider)]

    def series(self, study: str) -> Sequence[Answer]:
        """Return the series of a study."""

        def page(offset: int) -> Sequence[Mapping[str, Any]]:
            return list(self.client.search_for_series(study, offset=offset, fields=SERIES_KEYS))

        return self._ask(page, SERIES_KEYS)

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        """Return the classes of a series' instances."""

        def page(offset: int) -> Sequence[Mapping[str, Any]]:
            return list(self.client.search_for_instances(study, series, offset=offset, fields=INSTANCE_KEYS))

        return _classes(self._ask(page, INSTANCE_KEYS))


# ------------------------------------------------------------------ Orthanc


@dataclass(frozen=True)
class OrthancArchive:
    """An Orthanc that is asked over its own interface, which needs no registered AE title."""

    client: pyorthanc.Orthanc
    name: str

    def _ask(self, level: str, keys: Mapping[str, str], keywords: Sequence[str]) -> list[Answer]:
        body = {"Level": level, "Query": dict(keys), "Expand": True, "RequestedTags": list(keywords)}
        try:
            found = self.client.post_tools_find(json=body)
        except HTTPError as error:
            raise TransientError(f"{self.name} does not answer at its orthanc_url") from error
        return [_orthanc_answer(resource, keywords) for resource in found]

    def studies(self, keys: Mapping[str, str]) -> Sequence[Answer]:
        """Return the studies that match."""
        return self._ask("Study", keys, STUDY_KEYS)

    def series(self, study: str) -> Sequence[Answer]:
        """Return the series of a study."""
        return self._ask("Series", {"StudyInstanceUID": study}, SERIES_KEYS)

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        """Return the classes of a series' instances."""
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        return _classes(self._ask("Instance", keys, INSTANCE_KEYS))


def _orthanc_answer(resource: Mapping[str, Any], keywords: Sequence[str]) -> Answer:
    """Return the keywords of a resource; Orthanc before 1.11 knows no RequestedTags, but lists instances."""
    tags = {**resource.get("MainDicomTags", {}), **resource.get("RequestedTags", {})}
    tags.setdefault("NumberOfSeriesRelatedInstances", len(resource.get("Instances", ())))
    return {k: str(tags[k]) for k in keywords if tags.get(k)}
