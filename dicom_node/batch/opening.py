"""From settings to the parts of a batch: who is asked, who fetches, who runs."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

import sqlalchemy as sa

from dicom_node.batch.following import Follower
from dicom_node.batch.ledger import BatchLedger, BatchRow
from dicom_node.batch.planning import Planner
from dicom_node.batch.retrieval import Retriever, Way
from dicom_node.batch.runner import Runner
from dicom_node.batch.throttle import Throttle
from dicom_node.batch.ways import FindBy, RetrieveBy
from dicom_node.bundles.activation import Activations, models_key
from dicom_node.clock import Clock
from dicom_node.database import node_database
from dicom_node.errors import ConfigurationError
from dicom_node.intake.index import Index
from dicom_node.jobs.ledger import Ledger
from dicom_node.routing.rules import Router
from dicom_node.settings import NodeSettings, PeerSettings
from dicom_node.storage.opening import open_spool


def checked_way(peer: PeerSettings, find_by: FindBy, retrieve_by: RetrieveBy) -> Way:
    """Return the way to an archive, once its settings allow it.

    Raises
    ------
    ConfigurationError
        The peer's settings do not allow what is asked; the message names the setting.
    """
    by_dimse = (RetrieveBy.C_GET, RetrieveBy.C_MOVE)
    needs = (
        (find_by is FindBy.C_FIND and not peer.query, "query: true"),
        (find_by is FindBy.QIDO_RS and peer.dicomweb_url is None, "dicomweb_url"),
        (find_by is FindBy.ORTHANC and peer.orthanc_url is None, "orthanc_url"),
        (retrieve_by in by_dimse and not peer.retrieve, "retrieve: true"),
        (retrieve_by is RetrieveBy.WADO_RS and peer.dicomweb_url is None, "dicomweb_url"),
    )
    missing = [setting for lacks, setting in needs if lacks]
    if missing:
        raise ConfigurationError(
            f"{find_by} and {retrieve_by} need {' and '.join(missing)} at peer {peer.name}; "
            "add it under peers: or choose another way"
        )
    return Way(peer, find_by, retrieve_by)


def preferred_retrieval(peer: PeerSettings) -> RetrieveBy:
    """Return how to retrieve where nothing is said: WADO-RS leaves every object as the archive has it."""
    return RetrieveBy.C_GET if peer.dicomweb_url is None else RetrieveBy.WADO_RS


@dataclass(frozen=True)
class Batches:
    """The batches of a node's data folder."""

    settings: NodeSettings
    database: sa.Engine
    ledger: BatchLedger
    clock: Clock

    @classmethod
    def open(cls, settings: NodeSettings, clock: Clock) -> Batches:
        """Open the node's database."""
        database = node_database(settings)
        return cls(settings, database, BatchLedger(database, clock), clock)

    def planner(self, peer: PeerSettings) -> Planner:
        """Return what judges the candidates of an archive."""
        activations = Activations(self.database, self.settings.data_dir, self.clock)
        return Planner(
            ledger=Ledger(self.database, self.clock),
            router=Router(self.settings.rules, self.settings.peers),
            calling_ae=peer.ae_title,
            models=lambda: models_key(activations.named_in_force(), self.settings.models),
        )

    def runner(self, batch: BatchRow, stop: threading.Event) -> Runner:
        """Return a run of a batch.

        Raises
        ------
        ConfigurationError
            The archive is no peer any more, or its settings do not allow the way of the batch.
        """
        settings, chosen = self.settings, self.settings.batch
        way = checked_way(settings.peer(batch.peer), batch.find_by, batch.retrieve_by)
        spool = open_spool(settings, f"batch-{os.getpid()}")
        spool.incoming.mkdir(parents=True, exist_ok=True)
        minimum = max(chosen.minimum_free_bytes, spool.minimum_free_bytes)
        throttle = Throttle(chosen.maximum_bytes_per_s, self.clock, stop.wait)
        index = Index(self.database, spool, self.clock)
        ledger = Ledger(self.database, self.clock)
        return Runner(
            batch=batch,
            batches=self.ledger,
            follower=Follower(self.ledger, ledger, f"{settings.storage.machine}:{os.getpid()}"),
            retriever=Retriever.of(settings, way, index, throttle, stop),
            settings=chosen,
            room=lambda: spool.free(spool.data_dir) >= minimum,
            clock=self.clock,
        )
