"""Which bundle is in force for each part of the forecast: one row for each change, never altered.

The newest row of a part is in force. Each row remembers the one below it, so that rolling back twice
goes back twice. A row is one transaction: a change is wholly there or not at all, also after a kill.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from dicom_node.bundles.store import all_folders, verified
from dicom_node.clock import Clock
from dicom_node.database import activation, reading, writing
from dicom_node.errors import ConfigurationError
from inference.bundle_store import METADATA, BundleDescription, BundleKind, describe
from inference.errors import ModelError
from inference.model_settings import ModelSettings
from inference.models.catalogue import default_folders, load_model

SHORTEST_PREFIX = 4
"""Characters of a digest that are enough to name a bundle, where they are unique."""


class BundleName(NamedTuple):
    """What a bundle's metadata call it."""

    name: str
    version: str
    sha256: str


class ActivationEvent(StrEnum):
    """What changed the bundle in force."""

    ACTIVATED = "activated"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Activation:
    """One change; an empty `sha256` is the default that came with the product."""

    id: int
    at: float
    kind: BundleKind
    sha256: str
    event: ActivationEvent
    below: int | None


@dataclass(frozen=True)
class ModelsInForce:
    """The bundles that one job is made with, from its start to its end.

    Attributes
    ----------
    folders : mapping
        Folder of the bundle of each part.
    digests : mapping
        Its digest.
    """

    folders: Mapping[BundleKind, Path]
    digests: Mapping[BundleKind, str]

    def key(self, settings: ModelSettings) -> str:
        """Return a digest over the bundles and the settings of the site's segmenters."""
        return models_key(self.digests, settings)


def models_key(digests: Mapping[BundleKind, str], settings: ModelSettings) -> str:
    """Return a digest over the bundles in force, those of second opinions, and the site's settings."""
    facts = {
        "bundles": {str(k): v for k, v in digests.items()},
        # Of the folders that the settings name: the same folder may hold another bundle tomorrow.
        "second_opinions": [bundle_name(folder).sha256 for folder in settings.second_opinions],
        "settings": settings.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


NO_MODELS = ModelsInForce({}, {})


@dataclass(frozen=True)
class Activations:
    """The bundles in force in one data folder, and their history."""

    database: sa.Engine
    data_dir: Path
    clock: Clock

    # ---------------------------------------------------------------- reading

    def history(self) -> tuple[Activation, ...]:
        """Return all changes, oldest first."""
        with reading(self.database) as connection:
            return tuple(
                _activation(row)
                for row in connection.execute(sa.select(activation).order_by(activation.c.id))
            )

    def named_in_force(self) -> dict[BundleKind, str]:
        """Return the digest of the bundle in force for each part that has one, unverified."""
        names = {kind: bundle_name(folder).sha256 for kind, folder in default_folders().items()}
        chosen = {change.kind: change.sha256 for change in self.history()}
        return {**names, **{kind: sha256 for kind, sha256 in chosen.items() if sha256}}

    def in_force(self) -> ModelsInForce:
        """Return the bundles that a job which starts now is made with.

        Raises
        ------
        ModelError
            A bundle is absent or damaged; nothing else is used in its place.
        """
        folders = {kind: self._folder(sha256) for kind, sha256 in self.named_in_force().items()}
        return ModelsInForce(folders, {kind: describe(f).info.sha256 for kind, f in folders.items()})

    def _folder(self, sha256: str) -> Path:
        for folder in all_folders(self.data_dir):
            if bundle_name(folder).sha256 == sha256:
                return folder
        raise ModelError(f"the active model bundle {sha256[:12]} is not installed; install it again")

    def folder(self, name: str) -> Path:
        """Return the folder of the bundle of that name, ``NAME@VERSION``, or beginning of a digest.

        Raises
        ------
        ConfigurationError
            There is none, or there are several.
        """
        matching = {bundle_name(f).sha256: f for f in all_folders(self.data_dir) if _is_called(f, name)}
        if not matching:
            raise ConfigurationError(f"no bundle is called {name}; `hepatocast models list` shows them")
        if len(matching) > 1:
            digests = ", ".join(sha256[:12] for sha256 in matching)
            raise ConfigurationError(f"several bundles are called {name}; name one by its digest: {digests}")
        return next(iter(matching.values()))

    def find(self, name: str) -> BundleDescription:
        """Return the bundle of that name, verified; see `folder`.

        Raises
        ------
        ConfigurationError
            There is none, or there are several.
        ModelError
            It is damaged.
        """
        return describe(self.folder(name))

    # ---------------------------------------------------------------- changing

    def activate(self, name: str) -> BundleDescription:
        """Put a bundle in force for its part, once it was verified and its model could be loaded.

        Jobs that run go on with what they began with. A bundle that is in force already stays so.

        Raises
        ------
        ConfigurationError
            There is no such bundle, or it is a second opinion, which settings name.
        ModelError
            It is damaged or incompatible, or its model cannot be loaded; nothing was changed.
        """
        bundle = verified(self.find(name).folder)
        if bundle.kind is BundleKind.SECOND_OPINION:
            raise ConfigurationError(
                f"{bundle.info.name} is a second opinion: it replaces no part of the forecast, and "
                f"several may be asked; add its folder, {bundle.folder}, to second_opinions in models.yaml"
            )
        load_model(bundle.folder, bundle.kind)
        with writing(self.database) as connection:
            top = _top(connection, bundle.kind)
            if _digest(top, bundle.kind) != bundle.info.sha256:
                self._add(connection, bundle.kind, bundle.info.sha256, ActivationEvent.ACTIVATED, top)
        return bundle

    def roll_back(self, kind: BundleKind) -> str:
        """Return to the bundle that was in force before; gives its digest, empty for the shipped default.

        Raises
        ------
        ConfigurationError
            There is nothing to go back to.
        ModelError
            The earlier bundle is absent or damaged; nothing was changed.
        """
        with writing(self.database) as connection:
            top = _top(connection, kind)
            if top is None or not top.sha256:
                raise ConfigurationError(f"the {kind} in force is the shipped one; nothing to roll back")
            earlier = None if top.below is None else _row(connection, top.below)
            if earlier is not None and earlier.sha256:
                load_model(self._folder(earlier.sha256), kind)
            self._add(
                connection, kind, earlier.sha256 if earlier else "", ActivationEvent.ROLLED_BACK, earlier
            )
        return earlier.sha256 if earlier else ""

    def _add(
        self,
        connection: sa.Connection,
        kind: BundleKind,
        sha256: str,
        event: ActivationEvent,
        top: Activation | None,
    ) -> None:
        """Add a change. Above `top` for an activation; in its place for a return to it."""
        if event is ActivationEvent.ACTIVATED:
            below = None if top is None else top.id
        else:
            below = None if top is None else top.below
        connection.execute(
            sa.insert(activation).values(
                at=self.clock(), kind=str(kind), sha256=sha256, event=str(event), below=below
            )
        )


def _activation(row: sa.Row[Any]) -> Activation:
    facts = dict(row._mapping)
    return Activation(
        **{**facts, "kind": BundleKind(facts["kind"]), "event": ActivationEvent(facts["event"])}
    )


def _row(connection: sa.Connection, row_id: int) -> Activation:
    return _activation(connection.execute(sa.select(activation).where(activation.c.id == row_id)).one())


def _top(connection: sa.Connection, kind: BundleKind) -> Activation | None:
    query = (
        sa.select(activation).where(activation.c.kind == str(kind)).order_by(activation.c.id.desc()).limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _activation(row)


def _digest(top: Activation | None, kind: BundleKind) -> str:
    """Return the digest in force; empty where the part has no bundle."""
    if top is not None and top.sha256:
        return top.sha256
    default = default_folders().get(kind)
    return "" if default is None else bundle_name(default).sha256


def bundle_name(folder: Path) -> BundleName:
    """Return what a bundle is called, without verifying it; a damaged one must be found to be reported."""
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        return BundleName(str(metadata["name"]), str(metadata["version"]), str(metadata["sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        return BundleName(folder.name, "", folder.name)


def _is_called(folder: Path, name: str) -> bool:
    found = bundle_name(folder)
    by_digest = len(name) >= SHORTEST_PREFIX and found.sha256.startswith(name.lower())
    return by_digest or name in (found.name, f"{found.name}@{found.version}")
