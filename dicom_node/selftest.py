"""Checks of a configuration against the machine and the configured peers, one line each."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyorthanc
from httpx import HTTPError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.bundles.loading import load_bundles, models_of
from dicom_node.clock import Clock
from dicom_node.database import open_database, reading, result_object, revision, writing
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.intake.spool import free_bytes
from dicom_node.jobs.states import ResultObject, Revision
from dicom_node.network.certificates import judged, validities
from dicom_node.network.query import FIND, PeerQuery
from dicom_node.network.requestor import Proposal, associate
from dicom_node.network.scp import listening, port_file
from dicom_node.network.scu import echo, read_part10
from dicom_node.network.tls import client_context, server_context
from dicom_node.outbox import Outbox
from dicom_node.settings import NodeSettings, PeerSettings
from dicom_node.storage_settings import StorageSettings
from inference.clinical.sources.table import source_states
from inference.errors import ModelError
from inference.models.plugins.table import plugin_states
from inference.models.second_opinions.loading import reader_states
from inference.provenance import MANUFACTURER
from reporting.uids import uid_of

RETURNED_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "Segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
    "Comprehensive 3D SR": "1.2.840.10008.5.1.4.1.1.88.34",
    "Secondary Capture": "1.2.840.10008.5.1.4.1.1.7",
    "Encapsulated PDF": "1.2.840.10008.5.1.4.1.1.104.1",
}
"""SOP classes that a PACS must accept for everything to come back."""
SECONDARY_CAPTURE = RETURNED_CLASSES["Secondary Capture"]
HINTS = {
    "SENT": "no answer to the commitment request; the peer must know the address and port of our AE title",
    "COMMITTED": "it was not returned; the peer must offer WADO-RS at dicomweb_url, or C-GET",
}
"""What to do when the test object got no further than a state."""
COMMITMENT_RIGHTS = ("AllowNAction", "AllowEventReport")
"""What AllowStorageCommitment sets, as Orthanc's REST interface names it."""
STEPS = 200
"""Steps of the outbox that the test object is given."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; `detail` says what was found, or what to do."""

    subject: str
    name: str
    passed: bool
    detail: str


def check_machine(settings: NodeSettings) -> Iterator[Check]:
    """Check the data folder: writable, durable, with room."""
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"hepatocast")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Check("this machine", "data folder", False, f"{folder}: {error.strerror}; set data_dir")
        return
    yield Check("this machine", "data folder", True, f"{folder} is writable and flushes to disk")
    free, needed = free_bytes(folder), settings.listener.minimum_free_bytes
    text = f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB kept free"
    yield Check("this machine", "room", free > needed, text)


def check_tls(settings: NodeSettings, clock: Clock) -> Iterator[Check]:
    """Check that each TLS configuration can be used, and how long its certificates are valid."""
    tls = settings.listener.tls
    if tls is not None:
        yield from _tls_files("listener", tls.certificate_file, tls.ca_file, clock)
        yield _tls_usable("listener", lambda: server_context(tls))
    for peer in settings.peers:
        theirs = peer.tls
        if theirs is not None:
            yield from _tls_files(peer.name, theirs.certificate_file, theirs.ca_file, clock)
            yield _tls_usable(peer.name, partial(client_context, theirs))


def _tls_files(subject: str, certificate: Path | None, ca: Path | None, clock: Clock) -> Iterator[Check]:
    now = datetime.fromtimestamp(clock(), UTC)
    for name, path in (("TLS certificate", certificate), ("TLS authorities", ca)):
        if path is None:
            continue
        try:
            passed, detail = judged(validities(path), now)
        except ConfigurationError as error:
            passed, detail = False, str(error)
        yield Check(subject, name, passed, detail)


def _tls_usable(subject: str, make: Callable[[], ssl.SSLContext]) -> Check:
    try:
        make()
    except ConfigurationError as error:
        return Check(subject, "TLS", False, str(error))
    return Check(subject, "TLS", True, "key and certificate belong together; TLS 1.2 and 1.3")


def check_models(settings: NodeSettings) -> Iterator[Check]:
    """Check the bundles in force, each site segmenter and each second opinion of the configuration."""
    try:
        models = models_of(settings)
        bundles = load_bundles(models, settings)
    except ModelError as error:
        yield Check("models", "bundles in force", False, str(error))
    else:
        kinds = ", ".join(sorted(models.digests))
        yield Check("models", "bundles in force", True, f"{kinds}: verified and loaded")
        for name, problem in reader_states(bundles.second_readers):
            yield Check("models", f"second opinion {name}", problem is None, problem or "verified and loaded")
    for state in plugin_states(settings.models):
        yield Check("models", f"segmenter {state.name}", state.available, state.detail)


def check_clinical(settings: NodeSettings) -> Iterator[Check]:
    """Check that each source of clinical values can be asked."""
    for name, problem in source_states(settings.clinical_sources):
        yield Check("clinical values", name, problem is None, problem or "can be asked")


def check_peer(settings: NodeSettings, peer: PeerSettings, clock: Clock) -> Iterator[Check]:
    """Check one peer: echo, contexts, query, and the way of a test object until it was read back."""
    ours = settings.listener.ae_title
    reached = _tried(peer, "C-ECHO", lambda: _echo(peer, ours))
    yield reached
    if not reached.passed:
        return
    yield _tried(peer, "accepted objects", lambda: _contexts(peer, ours))
    if peer.query:
        yield _tried(peer, "C-FIND", lambda: _find(peer, ours))
    if peer.orthanc_url is not None:
        yield _tried(peer, "Orthanc", lambda: _orthanc(peer, ours))
    yield _tried(peer, "store, commit, read back", lambda: _deliver(settings, peer, clock))


def _tried(peer: PeerSettings, name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(peer.name, name, True, action())
    except NodeError as error:
        return Check(peer.name, name, False, str(error))


def _echo(peer: PeerSettings, ours: str) -> str:
    echo(peer, ours)
    return "answers"


def _contexts(peer: PeerSettings, ours: str) -> str:
    proposals = [Proposal(uid, (str(ExplicitVRLittleEndian),)) for uid in RETURNED_CLASSES.values()]
    with associate(peer, ours, proposals) as association:
        refused = [n for n, uid in RETURNED_CLASSES.items() if association.find(uid) is None]
    if refused:
        raise ConfigurationError(f"it does not accept {', '.join(refused)}; enable them there")
    return f"accepts all {len(RETURNED_CLASSES)} kinds"


def _find(peer: PeerSettings, ours: str) -> str:
    query = Dataset()
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = str(uid_of("check", "no such study"))
    PeerQuery(peer, ours).find(query)
    with associate(peer, ours, [Proposal(FIND, (str(ExplicitVRLittleEndian),))]) as association:
        association.need(FIND)
    return "answers queries"


def _orthanc(peer: PeerSettings, ours: str) -> str:
    try:
        with pyorthanc.Orthanc(str(peer.orthanc_url)) as client:
            version = client.get_system()["Version"]
            known = client.get_modalities(params={"expand": ""})
    except HTTPError as error:
        raise ConfigurationError(f"{peer.orthanc_url} does not answer; correct orthanc_url") from error
    mine = [m for m in known.values() if m.get("AET") == ours]
    if not mine:
        raise ConfigurationError(f"{ours} is not among its DicomModalities; add it there")
    if peer.storage_commitment and not all(mine[0].get(key, True) for key in COMMITMENT_RIGHTS):
        raise ConfigurationError(f"set AllowStorageCommitment for {ours} in its DicomModalities")
    return f"version {version}, {ours} is registered at {mine[0]['Host']}:{mine[0]['Port']}"


def test_object(clock: Clock) -> Dataset:
    """Return a one-pixel secondary capture of a marked test patient, with the node's equipment tag."""
    now = datetime.fromtimestamp(clock(), UTC)
    ds = Dataset()
    ds.SOPClassUID = SECONDARY_CAPTURE
    ds.SOPInstanceUID = uid_of("check", "instance", repr(clock()))
    ds.StudyInstanceUID = uid_of("check", "study", repr(clock()))
    ds.SeriesInstanceUID = uid_of("check", "series", repr(clock()))
    ds.PatientName, ds.PatientID = "HEPATOCAST^CHECK", "HEPATOCAST-CHECK"
    ds.PatientBirthDate = ds.PatientSex = ds.ReferringPhysicianName = ds.AccessionNumber = ""
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "CHECK", 1, 1
    ds.StudyDate, ds.StudyTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    ds.Modality, ds.ConversionType, ds.Manufacturer = "OT", "SYN", MANUFACTURER
    ds.SeriesDescription = "Hepatocast check, may be deleted"
    ds.PatientOrientation = ""
    ds.BodyPartExamined = "LIVER"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = 1
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.PixelData = b"\x00\x00"
    ds["PixelData"].VR = "OB"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


@contextmanager
def _temporary_node(settings: NodeSettings) -> Iterator[NodeSettings]:
    """Yield settings with a data folder of their own, for one test object."""
    with tempfile.TemporaryDirectory(prefix="hepatocast-check-") as folder:
        quick = settings.outbox.model_copy(update={"backoff_s": (0.5,), "commitment_timeout_s": 20.0})
        alone = {"data_dir": Path(folder), "outbox": quick, "storage": StorageSettings()}
        yield settings.model_copy(update=alone)


def _deliver(settings: NodeSettings, peer: PeerSettings, clock: Clock) -> str:
    """Deliver a test object by the outbox itself, with the node's listener or one for the moment."""
    if peer.storage_commitment and port_file(settings.data_dir).exists():
        peer = peer.model_copy(update={"storage_commitment": False})
        note = "; commitment is not asked, because its answer would go to the node that runs"
    else:
        note = ""
    with _temporary_node(settings) as temporary:
        alone = temporary.model_copy(update={"peers": (peer,)})
        if peer.storage_commitment:
            with listening(alone):
                state, detail = _outbox_result(alone, peer, clock)
        else:
            state, detail = _outbox_result(alone, peer, clock)
    if state != "VERIFIED":
        why = detail or HINTS.get(state, "no answer in time")
        raise ConfigurationError(f"the test object ended as {state}: {why}")
    return f"a test object came back equal{note}"


def _outbox_result(settings: NodeSettings, peer: PeerSettings, clock: Clock) -> tuple[str, str]:
    ds = test_object(clock)
    path = settings.data_dir / "check.dcm"
    ds.save_as(path, enforce_file_format=True)
    database = open_database(settings.data_dir)
    now = clock()
    with writing(database) as connection:
        connection.execute(
            revision.insert().values(
                study_instance_uid=str(ds.StudyInstanceUID),
                number=1,
                state=Revision.DONE,
                created_at=now,
                changed_at=now,
            )
        )
        connection.execute(
            result_object.insert().values(
                revision_id=1,
                peer=peer.name,
                kind="check",
                sop_class_uid=str(ds.SOPClassUID),
                sop_instance_uid=str(ds.SOPInstanceUID),
                study_instance_uid=str(ds.StudyInstanceUID),
                series_instance_uid=str(ds.SeriesInstanceUID),
                path=path.name,
                sha256=read_part10(path).sha256,
                state=ResultObject.READY,
                changed_at=now,
            )
        )
    outbox = Outbox(settings, database, clock)
    pause = threading.Event()
    state, detail = "", ""
    for _ in range(STEPS):
        outbox.deliver_once()
        with reading(database) as connection:
            state, detail = connection.execute(
                result_object.select().with_only_columns(result_object.c.state, result_object.c.detail)
            ).one()
        if state in ("VERIFIED", "REJECTED"):
            break
        pause.wait(0.1)
    database.dispose()
    shutil.rmtree(settings.data_dir / "results", ignore_errors=True)
    return str(state), str(detail)
