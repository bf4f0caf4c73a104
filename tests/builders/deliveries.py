"""A node's outbox with result objects in it, and a listener for the answers of its peers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import sqlalchemy as sa
from pydicom.dataset import Dataset

from dicom_node.clock import Clock
from dicom_node.database import audit, open_database, reading, result_object, revision, writing
from dicom_node.demo.orthanc_peer import free_port
from dicom_node.jobs.states import ResultObject, Revision
from dicom_node.network.scp import listening
from dicom_node.outbox import Outbox
from dicom_node.settings import NodeSettings, load_settings
from tests.builders.listeners import listener_config

NODE = "HEPATOCAST"


def delivery_settings(data_dir: Path, peers: tuple[dict, ...], **outbox: object) -> NodeSettings:
    """Return settings with these peers; further arguments are settings of the outbox."""
    config = listener_config(data_dir, peers, ae_title=NODE, port=free_port())
    settings = load_settings([config])
    return settings.model_copy(update={"outbox": settings.outbox.model_copy(update=outbox)})


def add_revision(settings: NodeSettings, objects: list[Dataset], clock: Clock, peers: tuple[str, ...]) -> int:
    """Write objects as the results of a revision that is DONE; returns its id."""
    database = open_database(settings.data_dir)
    folder = settings.data_dir / "results"
    folder.mkdir(exist_ok=True)
    with writing(database) as connection:
        number = (connection.execute(sa.select(sa.func.count()).select_from(revision)).scalar() or 0) + 1
        added = connection.execute(
            revision.insert().values(
                study_instance_uid=str(objects[0].StudyInstanceUID),
                number=number,
                state=Revision.DONE,
                created_at=clock(),
                changed_at=clock(),
            )
        )
        for ds in objects:
            path = folder / f"{ds.SOPInstanceUID}.dcm"
            ds.save_as(path, enforce_file_format=True)
            for peer in peers:
                connection.execute(
                    result_object.insert().values(
                        revision_id=added.lastrowid,
                        peer=peer,
                        kind="virtual_series",
                        sop_class_uid=str(ds.SOPClassUID),
                        sop_instance_uid=str(ds.SOPInstanceUID),
                        study_instance_uid=str(ds.StudyInstanceUID),
                        series_instance_uid=str(ds.SeriesInstanceUID),
                        path=str(path.relative_to(settings.data_dir)),
                        sha256="",
                        state=ResultObject.READY,
                        changed_at=clock(),
                    )
                )
    database.dispose()
    return int(added.lastrowid)


@contextmanager
def outbox_of(settings: NodeSettings, clock: Clock) -> Iterator[Outbox]:
    """Yield the outbox, while the listener takes what peers answer."""
    database = open_database(settings.data_dir)
    with listening(settings, clock):
        yield Outbox(settings, database, clock)
    database.dispose()


def object_states(settings: NodeSettings) -> dict[str, int]:
    """Return how many result objects are in which state."""
    query = sa.select(result_object.c.state, sa.func.count()).group_by(result_object.c.state)
    with reading(open_database(settings.data_dir)) as connection:
        return {str(state): int(count) for state, count in connection.execute(query)}


def events_of(settings: NodeSettings, sop_instance_uid: str) -> list[str]:
    """Return the audit events of one object, oldest first."""
    query = sa.select(audit.c.event).where(audit.c.key == sop_instance_uid).order_by(audit.c.id)
    with reading(open_database(settings.data_dir)) as connection:
        return [str(e) for e in connection.execute(query).scalars()]


def read(paths: list[Path]) -> list[Dataset]:
    """Read data sets."""
    return [pydicom.dcmread(p) for p in paths]
