"""The demonstration's way: a patient, a PACS, the node, and what came back.

Everything runs on loopback, on free ports, in a temporary folder; only the results stay.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pydicom import dcmread

from dicom_node.bundles.activation import Activations
from dicom_node.clock import Clock
from dicom_node.database import open_database
from dicom_node.demo.orthanc_peer import free_port, orthanc_pacs, orthanc_program
from dicom_node.demo.page import Event, Returned, write_page
from dicom_node.demo.peer import small_pacs
from dicom_node.errors import NodeError, PermanentError
from dicom_node.forecast import Order, forecast
from dicom_node.jobs.ledger import Ledger, RevisionRow
from dicom_node.jobs.states import Revision
from dicom_node.network.query import PeerQuery
from dicom_node.network.scu import read_part10, store_session
from dicom_node.settings import NodeSettings, PeerSettings, load_settings
from dicom_node.worker import results_folder
from inference.bundle_store import bundle_folder, describe
from inference.clinical.records import clinical_record
from inference.errors import RejectedInput
from inference.models.catalogue import default_folders
from inference.pipeline import Bundles
from inference.simulation.dicom_study import write_study
from inference.simulation.patient import simulate_patient

Say = Callable[[str, float], None]

NODE_AE, PACS_AE = "HEPATOCAST", "DEMOPACS"
POLL_S = 0.1
WITHIN_S = 900.0
SEED = 7
STUDY_TIME = datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
CLINICAL = {
    "age": {"value": 63, "unit": "years"},
    "sex": "M",
    "ecog": 0,
    "child_pugh_class": "A",
    "cirrhosis": "yes",
    "hepatitis_b": "yes",
    "hepatitis_c": "no",
    "afp": {"value": 210, "unit": "ng/mL"},
    "albumin": {"value": 38, "unit": "g/L"},
    "bilirubin": {"value": 15, "unit": "umol/L"},
    "portal_vein_thrombosis": "no",
    "vascular_invasion": "no",
    "metastasis": "no",
    "lymph_nodes": "no",
}
"""Clinical values of the simulated patient."""
SIMULATED_MODELS = ("image_vectors_ct", "protocol_survival", "comparison_ct")
"""Shipped bundles that learned from simulated patients: in force for the simulated patient, so that survival
under every regimen and their comparison are shown. A node has them only where somebody activates them."""
ENDED_BADLY = (
    Revision.HELD,
    Revision.IGNORED,
    Revision.REFUSED,
    Revision.FAILED,
    Revision.CANCELLED,
)
SHARES: Mapping[Revision, float] = {
    Revision.RECEIVING: 0.12,
    Revision.COMPLETE: 0.16,
    Revision.QUEUED: 0.16,
    Revision.RUNNING: 0.18,
    Revision.DONE: 0.65,
    Revision.DELIVERING: 0.65,
    Revision.DELIVERED: 0.9,
}
"""Of the progress bar at the beginning of each state."""
TEXTS: Mapping[Revision, str] = {
    Revision.COMPLETE: "the study was quiet and is complete",
    Revision.RUNNING: "the forecast began",
    Revision.DONE: "all objects are made",
    Revision.DELIVERED: "every object was committed by the peer and read back",
}
"""What is noted on the page when a state is reached."""


@dataclass
class Timeline:
    """What happened when, from the moment of sending."""

    clock: Clock
    started: float = 0.0
    events: list[Event] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Note that something happened now."""
        self.events.append(Event(text, self.clock() - self.started))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One run: where its results go, which study, by which models, and who is told of progress.

    Attributes
    ----------
    models : tuple of str
        Shipped bundles that take the place of the defaults.
    """

    out: Path
    study: Path
    clinical: Path | None
    models: tuple[str, ...]
    say: Say
    clock: Clock

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the study."""
        return tuple(sorted(p for p in self.study.rglob("*") if p.is_file()))


def simulated_study(folder: Path) -> tuple[Path, Path]:
    """Write the simulated patient and a file of clinical values; returns both paths."""
    write_study(simulate_patient(SEED), folder / "study", STUDY_TIME)
    header = dcmread(folder / "study" / "seg.dcm", stop_before_pixels=True)
    clinical = folder / "clinical.json"
    record = {"study_instance_uid": str(header.StudyInstanceUID), **CLINICAL}
    clinical.write_text(json.dumps([record], indent=1), encoding="utf-8")
    return folder / "study", clinical


def without_network(demo: Demonstration, settings: NodeSettings) -> Path:
    """Forecast the study in this process and write the page; returns its path."""
    order = Order(
        files=demo.files,
        job_time=datetime.fromtimestamp(int(demo.clock()), UTC),
        pipeline=settings.pipeline(),
        clinical=clinical_record(demo.clinical, demo.files),
    )
    chosen = {describe(folder).kind: folder for folder in map(bundle_folder, demo.models)}
    bundles = Bundles.load({**default_folders(), **chosen})
    done = forecast(order, settings, demo.out, demo.say, bundles)
    by_kind: dict[str, list[Path]] = defaultdict(list)
    for made in done.objects:
        by_kind[made.kind].append(demo.out / made.path)
    returned = Returned(demo.files, {kind: tuple(paths) for kind, paths in by_kind.items()})
    return write_page(demo.out, done.document, returned, (), "a folder")


def over_the_network(demo: Demonstration) -> Path:
    """Send the study through a PACS and the node, fetch what came back, and write the page.

    Raises
    ------
    RejectedInput
        The node refused the study.
    PermanentError
        The node did not deliver.
    """
    with tempfile.TemporaryDirectory(prefix="hepatocast-demo-") as temporary:
        work = Path(temporary)
        node_port = free_port()
        with _pacs(work / "pacs", {NODE_AE: ("127.0.0.1", node_port)}) as (peer_name, pacs_port):
            config = _configuration(work, node_port, pacs_port, demo.clinical)
            settings = load_settings([config])
            _put_in_force(settings, demo)
            timeline = Timeline(demo.clock, demo.clock())
            with _node(config, demo.out / "node.log"):
                demo.say("the node and its PACS start", 0.02)
                _wait_for(settings.data_dir / "listener.port")
                _send(demo, settings, timeline)
                row = _deliver(demo, settings, timeline)
                demo.say("fetching what came back", 0.92)
                returned = _fetch(demo, settings, row)
        document = _document(settings, row)
        (demo.out / "result.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        demo.say("drawing the page", 0.96)
        return write_page(demo.out, document, returned, timeline.events, peer_name)


@contextmanager
def _pacs(folder: Path, nodes: dict[str, tuple[str, int]]) -> Iterator[tuple[str, int]]:
    program = orthanc_program()
    if program is not None:
        with orthanc_pacs(program, folder, PACS_AE, nodes) as port:
            yield "Orthanc", port
    else:
        with small_pacs(folder, PACS_AE, nodes) as port:
            yield "a small PACS of our own", port


def _configuration(work: Path, node_port: int, pacs_port: int, clinical: Path | None) -> Path:
    peer = {"name": "pacs", "ae_title": PACS_AE, "host": "127.0.0.1", "port": pacs_port}
    content = {
        "data_dir": str(work / "node"),
        "clinical_file": str(clinical) if clinical else None,
        "listener": {"ae_title": NODE_AE, "port": node_port, "minimum_free_bytes": 0},
        "peers": [{**peer, "query": True, "retrieve": True}],
        "web": {"enabled": False},
        "assembly": {
            "series_quiet_period_s": 2,
            "study_quiet_period_s": 2,
            "confirm_with": "pacs",
        },
    }
    path = work / "demo.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _put_in_force(settings: NodeSettings, demo: Demonstration) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    database = open_database(settings.data_dir)
    try:
        for name in demo.models:
            Activations(database, settings.data_dir, demo.clock).activate(name)
    finally:
        database.dispose()


@contextmanager
def _node(config: Path, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "dicom_node.cli.main", "serve", "--config", str(config)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def _wait_for(path: Path) -> None:
    pause = threading.Event()
    for _ in range(int(60 / POLL_S)):
        if path.exists():
            return
        pause.wait(POLL_S)
    raise PermanentError("the node did not start; run `hepatocast serve` to see why")


def _send(demo: Demonstration, settings: NodeSettings, timeline: Timeline) -> None:
    """Store the study in the PACS, and send it on to the node in the PACS's name."""
    objects = [read_part10(path) for path in demo.files if path.suffix != ".json"]
    kinds = [(o.sop_class_uid, o.transfer_syntax_uid) for o in objects]
    node = PeerSettings(name="node", ae_title=NODE_AE, host="127.0.0.1", port=settings.listener.port)
    timeline.started = demo.clock()
    for number, (receiver, text) in enumerate(((settings.peer("pacs"), "PACS"), (node, "node"))):
        with store_session(receiver, PACS_AE, kinds) as session:
            for done, item in enumerate(objects):
                session.store(item)
                demo.say(f"sending to the {text}", 0.03 + 0.04 * (number + done / len(objects)))
    timeline.note(f"{len(objects)} instances were sent to the node over C-STORE")


def _deliver(demo: Demonstration, settings: NodeSettings, timeline: Timeline) -> RevisionRow:
    """Follow the study until it is delivered."""
    database = open_database(settings.data_dir)
    ledger = Ledger(database, demo.clock)
    pause = threading.Event()
    last: Revision | None = None
    try:
        while demo.clock() - timeline.started < WITHIN_S:
            rows = ledger.revisions()
            if rows and rows[-1].state is not last:
                last = rows[-1].state
                _note(timeline, last, demo.say)
            if last is Revision.DELIVERED:
                return rows[-1]
            if last in ENDED_BADLY:
                _raise_reason(rows[-1])
            pause.wait(POLL_S)
    finally:
        database.dispose()
    raise PermanentError(f"the study was not delivered within {WITHIN_S:.0f} s")


def _note(timeline: Timeline, state: Revision, say: Say) -> None:
    if state in TEXTS:
        timeline.note(TEXTS[state])
    say(str(state).lower(), SHARES.get(state, 0.0))


def _raise_reason(row: RevisionRow) -> None:
    if row.state is Revision.REFUSED:
        raise RejectedInput(row.reason)
    raise PermanentError(f"the study is {row.state}: {row.reason}")


def _document(settings: NodeSettings, row: RevisionRow) -> dict[str, Any]:
    folder = results_folder(settings.data_dir, row.id) / str(row.fence)
    document: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return document


def _fetch(demo: Demonstration, settings: NodeSettings, row: RevisionRow) -> Returned:
    """Fetch every series the node returned from the PACS into ``OUT/<kind>/<series>/``."""
    document = _document(settings, row)
    kind_of = {o["series_instance_uid"]: o["kind"] for o in document["objects"]}
    query = PeerQuery(settings.peer("pacs"), PACS_AE)
    by_kind: dict[str, list[Path]] = defaultdict(list)
    for uid, kind in kind_of.items():
        folder = demo.out / kind / uid[-12:]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        by_kind[kind] += query.fetch_series(row.study_instance_uid, uid, folder)
    missing = [o["kind"] for o in document["objects"] if not by_kind[o["kind"]]]
    if missing:
        raise NodeError(f"the PACS has no {missing[0]} of the study")
    return Returned(demo.files, {kind: tuple(sorted(paths)) for kind, paths in by_kind.items()})
