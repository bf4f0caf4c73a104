"""What ``hepatocast models list`` shows: every bundle with its state, and every site segmenter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dicom_node.bundles.activation import Activations, bundle_name
from dicom_node.bundles.store import all_folders, models_folder, verified
from inference.bundle_store import METADATA, BundleKind, describe, shipped_folders
from inference.errors import ModelError
from inference.model_settings import ModelSettings


class BundleStatus(StrEnum):
    """Where a bundle stands."""

    ACTIVE = "active"
    AVAILABLE = "available"
    DAMAGED = "damaged"
    INCOMPATIBLE = "incompatible"
    MISSING = "missing"


UNUSABLE = (BundleStatus.DAMAGED, BundleStatus.INCOMPATIBLE, BundleStatus.MISSING)
"""States in which no job can be made with a bundle."""


@dataclass(frozen=True, slots=True)
class ListedBundle:
    """One bundle; `problem` says what is wrong with one that cannot be used."""

    name: str
    kind: str
    version: str
    sha256: str
    trained_on: str
    status: BundleStatus
    origin: str
    folder: Path
    problem: str = ""
    in_force: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)


def listed_folder(folder: Path) -> ListedBundle:
    """Return one bundle by its folder, verified."""
    return _listed(folder, set())


def listed(activations: Activations) -> tuple[ListedBundle, ...]:
    """Return all bundles, shipped ones first, each verified; and those in force that are not there."""
    active = activations.named_in_force()
    found = [_listed(folder, set(active.values())) for folder in all_folders(activations.data_dir)]
    known = {bundle.sha256 for bundle in found}
    models = models_folder(activations.data_dir)
    absent = [
        ListedBundle(
            name="?",
            kind=str(kind),
            version="",
            sha256=sha256,
            trained_on="",
            status=BundleStatus.MISSING,
            origin="installed",
            folder=models / sha256,
            problem="it is in force and not there; install it again, or roll back",
            in_force=True,
        )
        for kind, sha256 in active.items()
        if sha256 not in known
    ]
    return (*found, *absent)


def asked(settings: ModelSettings) -> tuple[ListedBundle, ...]:
    """Return the second opinions that the settings name, each verified."""
    found = (_listed(folder, set()) for folder in settings.second_opinions)
    return tuple(
        replace(
            bundle,
            kind=str(BundleKind.SECOND_OPINION),
            origin="settings",
            status=BundleStatus.ACTIVE if bundle.status is BundleStatus.AVAILABLE else bundle.status,
            in_force=True,
        )
        for bundle in found
    )


def _listed(folder: Path, active: set[str]) -> ListedBundle:
    name = bundle_name(folder)
    metadata = _metadata(folder)
    in_force = name.sha256 in active
    status, problem = _status(folder)
    if status is BundleStatus.AVAILABLE and in_force:
        status = BundleStatus.ACTIVE
    metrics = metadata.get("metrics", {})
    return ListedBundle(
        name=name.name,
        kind=str(metadata.get("kind", "")),
        version=name.version,
        sha256=name.sha256,
        trained_on=str(metadata.get("trained_on", "")),
        status=status,
        origin="shipped" if folder in shipped_folders() else "installed",
        folder=folder,
        problem=problem,
        in_force=in_force,
        metrics=metrics if isinstance(metrics, Mapping) else {},
    )


def _status(folder: Path) -> tuple[BundleStatus, str]:
    try:
        describe(folder)
    except ModelError as error:
        return BundleStatus.DAMAGED, str(error)
    try:
        verified(folder)
    except ModelError as error:
        return BundleStatus.INCOMPATIBLE, str(error)
    return BundleStatus.AVAILABLE, ""


def _metadata(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
