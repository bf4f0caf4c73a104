"""Results waiting in an outbox, and a node that delivers them to a real peer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml
from pydicom.dataset import Dataset

from dicom_node.database import audit, open_database, reading, result_object, revision, writing
from dicom_node.jobs.ledger import Ledger
from dicom_node.jobs.states import ResultObject, Revision
from dicom_node.network.scu import read_part10
from dicom_node.outbox import Outbox
from dicom_node.settings import NodeSettings, load_settings
from tests.builders.dicom_files import ct_series
from tests.builders.orthanc import Orthanc
from tests.builders.waiting import until

OURS = "HEPATOCAST"
STUDY, SERIES = "1.2.826.1", "1.2.826.1.1"


def orthanc_peer(orthanc: Orthanc, name: str = "pacs", **more: Any) -> dict[str, Any]:
    """Return the settings of an Orthanc as a peer."""
    return {
        "name": name,
        "ae_title": orthanc.ae_title,
        "host": "127.0.0.1",
        "port": orthanc.dicom_port,
        "dicomweb_url": orthanc.dicomweb_url,
        "dimse_timeout_s": 10,
        "association_timeout_s": 3,
        **more,
    }


@dataclass
class Delivery:
    """A data folder with result objects, and the outbox over it."""

    data_dir: Path
    clock: Callable[[], float]
    peers: Sequence[dict[str, Any]]
    port: int = 0
    outbox_settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        content = {
            "data_dir": str(self.data_dir),
            "listener": {"ae_title": OURS, "port": self.port, "minimum_free_bytes": 0},
            "peers": list(self.peers),
            "outbox": self.outbox_settings,
        }
        self.config = self.data_dir.with_suffix(".yaml")
        self.config.write_text(yaml.safe_dump(content), encoding="utf-8")
        self.settings: NodeSettings = load_settings([self.config])
        self.database: sa.Engine = open_database(self.data_dir)
        self.ledger = Ledger(self.database, self.clock)
        self.restart()

    def restart(self) -> None:
        """Make a new outbox, which knows only what the database knows."""
        self.outbox = Outbox(self.settings, self.database, self.clock)

    def add(self, data_sets: Sequence[Dataset], peers: Sequence[str] = ("pacs",), number: int = 1) -> int:
        """Write results of one revision, DONE, as the ledger does; returns its id."""
        with writing(self.database) as connection:
            added = connection.execute(
                sa.insert(revision).values(
                    study_instance_uid=STUDY,
                    number=number,
                    state=Revision.DONE,
                    created_at=self.clock(),
                    changed_at=self.clock(),
                )
            )
            revision_id = int(added.lastrowid)
            folder = self.data_dir / "results" / str(revision_id) / "1"
            folder.mkdir(parents=True)
            rows = []
            for ds in data_sets:
                path = folder / f"{ds.SOPInstanceUID}.dcm"
                ds.save_as(path, enforce_file_format=True)
                rows += [self._row(ds, path, revision_id, peer) for peer in peers]
            if rows:
                connection.execute(sa.insert(result_object), rows)
        return revision_id

    def _row(self, ds: Dataset, path: Path, revision_id: int, peer: str) -> dict[str, Any]:
        return {
            "revision_id": revision_id,
            "peer": peer,
            "sop_instance_uid": str(ds.SOPInstanceUID),
            "sop_class_uid": str(ds.SOPClassUID),
            "study_instance_uid": str(ds.StudyInstanceUID),
            "series_instance_uid": str(ds.SeriesInstanceUID),
            "kind": "virtual_series",
            "path": str(path.relative_to(self.data_dir)),
            "sha256": read_part10(path).sha256,
            "state": ResultObject.READY,
            "next_attempt_at": 0.0,
            "changed_at": self.clock(),
        }

    def add_slices(self, count: int, rows: int = 32, **more: Any) -> list[Dataset]:
        """Add a revision of `count` CT slices; returns them."""
        slices = ct_series(count, STUDY, SERIES, rows=rows)
        self.add(slices, **more)
        return slices

    # -------------------------------------------------------------- looking

    def objects(self, peer: str = "pacs") -> list[sa.Row[Any]]:
        query = sa.select(result_object).where(result_object.c.peer == peer).order_by(result_object.c.id)
        with reading(self.database) as connection:
            return list(connection.execute(query))

    def counts(self, peer: str = "pacs") -> dict[str, int]:
        """Number of objects by state."""
        return dict(Counter(str(row.state) for row in self.objects(peer)))

    def states(self) -> list[str]:
        return [str(r.state) for r in self.ledger.revisions()]

    def events(self, uid: str) -> list[str]:
        """Events of one object from the audit trail."""
        query = sa.select(audit.c.event).where(audit.c.entity == "object", audit.c.key == uid)
        with reading(self.database) as connection:
            return [str(e) for e in connection.execute(query.order_by(audit.c.id)).scalars()]

    def sent_uids(self) -> Counter[str]:
        """How often each UID was noted as stored by a peer."""
        query = sa.select(audit.c.key).where(audit.c.event == "stored by peer")
        with reading(self.database) as connection:
            return Counter(connection.execute(query).scalars())

    # -------------------------------------------------------------- running

    def until_counts(self, within_s: float = 30.0, peer: str = "pacs", **counts: int) -> None:
        """Step the outbox until the objects are in these states."""

        def reached() -> bool:
            self.outbox.deliver_once()
            return self.counts(peer) == counts

        try:
            until(reached, within_s)
        except AssertionError:
            found = json.dumps(self.counts(peer)), {row.detail for row in self.objects(peer)}
            raise AssertionError(f"not {counts} but {found}") from None
