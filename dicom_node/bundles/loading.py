"""From bundles in force and settings to the models of a job."""

from __future__ import annotations

from dicom_node.bundles.activation import Activations, ModelsInForce
from dicom_node.clock import system_clock
from dicom_node.database import has_database, node_database
from dicom_node.settings import NodeSettings
from dicom_node.worker import ModelChoice
from inference.bundle_store import describe
from inference.models.catalogue import default_folders
from inference.models.plugins.table import site_segmenters
from inference.pipeline import Bundles


def load_bundles(models: ModelsInForce, settings: NodeSettings) -> Bundles:
    """Load the models of one job, verified, with the site's segmenters and second opinions.

    Raises
    ------
    ModelError
        A bundle is absent, damaged or incompatible.
    """
    wanted = settings.models
    return Bundles.load(models.folders, site_segmenters(wanted), wanted.second_opinions)


def model_choice(activations: Activations, settings: NodeSettings) -> ModelChoice:
    """Return how the worker of a node chooses the bundles of each job."""
    return ModelChoice(activations.in_force, lambda models: models.key(settings.models))


def models_of(settings: NodeSettings) -> ModelsInForce:
    """Return the bundles in force in the node's data folder; the shipped ones where there is no node.

    Raises
    ------
    ModelError
        A bundle is absent or damaged.
    """
    if not has_database(settings):
        folders = default_folders()
        return ModelsInForce(folders, {kind: describe(f).info.sha256 for kind, f in folders.items()})
    database = node_database(settings)
    try:
        return Activations(database, settings.data_dir, system_clock).in_force()
    finally:
        database.dispose()
