"""Fetching one archived study into the spool, by the same durable path as what is sent to the listener.

Only what is not here yet is fetched, so that a retrieval that broke off goes on where it stopped, and an
object is never stored a second time in another encoding.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO

import sqlalchemy as sa
from pydicom.dataset import Dataset

from dicom_node.batch.archive import Answer, Archive, asking
from dicom_node.batch.dry_run import input_series
from dicom_node.batch.planning import series_made_here
from dicom_node.batch.throttle import Throttle
from dicom_node.batch.ways import FindBy, RetrieveBy
from dicom_node.database import instance, reading
from dicom_node.errors import NodeError, PeerRejected, PermanentError, TransientError
from dicom_node.intake.index import Index, received_whole
from dicom_node.network.contexts import STORAGE_CLASSES
from dicom_node.network.dicomweb import retrieve_series
from dicom_node.network.query import Fetched, PeerQuery, Take, query_identifier
from dicom_node.settings import NodeSettings, PeerSettings

_log = logging.getLogger(__name__)

PART_10_START = 132
"""Preamble and prefix of a file (PS3.10 section 7.1)."""
GROUP_LENGTH_ELEMENT = 12


class RetrievalStopped(NodeError):
    """The run is to end; what came is kept, the rest comes with the next run."""


class ArchiveAway(TransientError):
    """The archive does not answer questions: no study's fault."""


class NothingToRetrieve(PermanentError):
    """The archive has nothing of the study that can be input."""


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What one retrieval brought: instances and bytes that were not here before."""

    instances: int
    size_bytes: int


@dataclass(frozen=True)
class Way:
    """How studies come: from which peer, asked how, retrieved how."""

    peer: PeerSettings
    find_by: FindBy
    retrieve_by: RetrieveBy


@dataclass(frozen=True, slots=True)
class _Series:
    """One series to be fetched: what is missing of it, and whether that is all of it."""

    study: str
    uid: str
    missing: tuple[str, ...]
    whole: bool


@dataclass(frozen=True)
class Retriever:
    """Fetches studies; for use by several threads.

    Attributes
    ----------
    accepted : frozenset of str
        SOP classes that are kept; others of a study (dose pages among the images) are left out.
    """

    way: Way
    our_ae_title: str
    index: Index
    accepted: frozenset[str]
    throttle: Throttle
    stop: threading.Event

    @classmethod
    def of(
        cls, settings: NodeSettings, way: Way, index: Index, throttle: Throttle, stop: threading.Event
    ) -> Retriever:
        """Return the retriever of a node."""
        accepted = frozenset((*map(str, STORAGE_CLASSES), *settings.clinical.sop_classes))
        return cls(way, settings.listener.ae_title, index, accepted, throttle, stop)

    def retrieve(self, study: str) -> Retrieved:
        """Fetch what is missing of a study.

        Raises
        ------
        ArchiveAway
            The archive cannot be asked now.
        NothingToRetrieve
            It has no series of the study that can be input.
        RetrievalStopped
            The run is to end.
        NodeError
            Something of the study did not come; what came is kept.
        """
        wanted = self._wanted(study)
        before = self._here(study)
        for series in wanted:
            missing = tuple(uid for uid in series.missing if uid not in before)
            if missing:
                whole = len(missing) == len(series.missing)
                self._fetch(_Series(study, series.uid, missing, whole))
        here = self._here(study)
        expected = [uid for series in wanted for uid in series.missing]
        absent = [uid for uid in expected if uid not in here]
        if absent:
            raise TransientError(f"{len(absent)} of {len(expected)} instances did not come")
        came = [size for uid, size in here.items() if uid not in before]
        return Retrieved(len(came), sum(came))

    def _wanted(self, study: str) -> list[_Series]:
        """Return the series that can be input with all of their instances."""
        try:
            with asking(self.way.find_by, self.way.peer, self.our_ae_title) as archive:
                answers = archive.series(study)
                if not answers:
                    raise PermanentError(f"{self.way.peer.name} has nothing of the study")
                made_here = series_made_here(self.index.engine, study)
                wanted = [self._series(archive, study, s) for s in input_series(answers, made_here)]
        except (TransientError, PeerRejected) as error:
            raise ArchiveAway(str(error)) from error
        wanted = [series for series in wanted if series.missing]
        if not wanted:
            raise NothingToRetrieve("the archive has no series of it that can be input")
        return wanted

    def _series(self, archive: Archive, study: str, series: Answer) -> _Series:
        self._check_stop()
        uid = series["SeriesInstanceUID"]
        classes = archive.instances(study, uid)
        kept = tuple(u for u, sop_class in classes.items() if not sop_class or sop_class in self.accepted)
        return _Series(study, uid, kept, whole=True)

    def _here(self, study: str) -> dict[str, int]:
        """Return SOP Instance UID to size of what is here of a study, on disk too."""
        columns = (instance.c.sop_instance_uid, instance.c.size_bytes, instance.c.path)
        query = sa.select(*columns).where(instance.c.study_instance_uid == study)
        with reading(self.index.engine) as connection:
            rows = connection.execute(query).all()
        return {row.sop_instance_uid: row.size_bytes for row in rows if self.index.spool.exists(row.path)}

    def _check_stop(self) -> None:
        if self.stop.is_set():
            raise RetrievalStopped("the run is to end")

    # -------------------------------------------------------------- fetching

    def _fetch(self, series: _Series) -> None:
        self._check_stop()
        ways: dict[RetrieveBy, Callable[[_Series], None]] = {
            RetrieveBy.C_GET: self._by_get,
            RetrieveBy.C_MOVE: self._by_move,
            RetrieveBy.WADO_RS: self._by_wado,
        }
        ways[self.way.retrieve_by](series)

    def _take(self, fetched: Fetched) -> None:
        """Keep one object.

        Raises
        ------
        TransientError, PermanentError
            It cannot be kept now, or never.
        """
        self._check_stop()
        if fetched.sop_class_uid in self.accepted:
            received = received_whole(fetched.data_set, fetched.transfer_syntax_uid, self.way.peer.ae_title)
            try:
                self.index.accept(received)
            except OSError as error:  # a listener that starts sweeps files that are being written
                raise TransientError("the file could not be written; it is fetched again") from error
        self.throttle.used(len(fetched.data_set))

    def _query(self, take: Take) -> PeerQuery:
        return PeerQuery(self.way.peer, self.our_ae_title, take)

    def _by_get(self, series: _Series) -> None:
        """Fetch by C-GET; what it does not bring (compressed objects, say) by C-MOVE."""
        came: set[str] = set()

        def take(fetched: Fetched) -> None:
            self._take(fetched)
            came.add(fetched.sop_instance_uid)

        try:
            self._query(take).get(_identifier(series), take)
        except (PeerRejected, TransientError) as error:
            _log.info("%s; trying C-MOVE", error)
        rest = tuple(uid for uid in series.missing if uid not in came)
        if rest:
            self._by_move(_Series(series.study, series.uid, rest, whole=not came and series.whole))

    def _by_move(self, series: _Series) -> None:
        """Let the archive send it to the listener of the node."""
        self._check_stop()
        self._query(self._take).move(_identifier(series))
        here = self._here(series.study)
        self.throttle.used(sum(here.get(uid, 0) for uid in series.missing))

    def _by_wado(self, series: _Series) -> None:
        """Fetch by WADO-RS, in the transfer syntax of the archive."""
        missing = set(series.missing)
        for ds in _missing_only(retrieve_series(self.way.peer, series.study, series.uid), missing):
            self._take(as_fetched(ds))


def _missing_only(data_sets: Iterable[Dataset], missing: set[str]) -> Iterable[Dataset]:
    return (ds for ds in data_sets if str(ds.get("SOPInstanceUID", "")) in missing)


def _identifier(series: _Series) -> Dataset:
    keys = {"StudyInstanceUID": series.study, "SeriesInstanceUID": series.uid}
    if series.whole:
        return query_identifier("SERIES", **keys)
    identifier = query_identifier("IMAGE", **keys)
    identifier.SOPInstanceUID = list(series.missing)
    return identifier


def as_fetched(ds: Dataset) -> Fetched:
    """Return an object of a DICOM file with its data set still in the file's transfer syntax."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    length = int.from_bytes(content[PART_10_START + 8 : PART_10_START + GROUP_LENGTH_ELEMENT], "little")
    start = PART_10_START + GROUP_LENGTH_ELEMENT + length
    return Fetched(
        sop_class_uid=str(ds.get("SOPClassUID", "")),
        sop_instance_uid=str(ds.get("SOPInstanceUID", "")),
        transfer_syntax_uid=syntax,
        data_set=bytearray(content[start:]),
    )
