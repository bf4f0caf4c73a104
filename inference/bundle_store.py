"""Reading model bundles: metadata, and files that are verified against their digest.

A bundle is a folder with ``metadata.json`` and any other files. The metadata give ``name``,
``version``, ``trained_on`` and ``sha256``, the digest over all other files; and, so that the program
knows what to do with it, ``kind`` and ``format``. ``schema`` (1 where absent), ``minimum_program`` and
``metrics`` are optional. ``metadata_sha256`` is the digest over the metadata themselves: what a bundle
says of its training and its figures is verified like its weights, because it decides what is written
into every result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from inference.errors import ModelError
from inference.results import BundleInfo

METADATA = "metadata.json"
METADATA_DIGEST = "metadata_sha256"
_SHIPPED = Path(__file__).parent / "bundles"
_Model = TypeVar("_Model", bound=BaseModel)


def bundle_folder(name_or_path: str | Path) -> Path:
    """Return the folder of a bundle: one that is shipped, by name, or any, by path.

    Raises
    ------
    ModelError
        There is no such folder, or it has no metadata.
    """
    shipped = _SHIPPED / str(name_or_path)
    is_name = isinstance(name_or_path, str) and Path(name_or_path).name == name_or_path
    folder = shipped if is_name and shipped.is_dir() else Path(name_or_path)
    if not (folder / METADATA).is_file():
        raise ModelError(f"there is no model bundle {Path(name_or_path).name}")
    return folder


def digest(folder: Path) -> str:
    """Return the SHA-256 over a bundle's files but the metadata: relative names and contents."""
    total = hashlib.sha256()
    files = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in sorted(files, key=lambda p: p.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if name != METADATA:
            total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def metadata_digest(metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 over a bundle's metadata but the two digests, whatever their order and layout."""
    told = {key: value for key, value in metadata.items() if key not in ("sha256", METADATA_DIGEST)}
    same_as_read = json.loads(json.dumps(told))
    return hashlib.sha256(json.dumps(same_as_read, sort_keys=True).encode()).hexdigest()


def load_metadata(name_or_path: str | Path) -> tuple[BundleInfo, dict[str, Any]]:
    """Return what a bundle is and all of its metadata, after its files were verified.

    Raises
    ------
    ModelError
        The bundle is absent, its metadata cannot be read or were changed, or a file differs from the
        digest.
    """
    folder = bundle_folder(name_or_path)
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        info = BundleInfo(
            name=str(metadata["name"]),
            version=str(metadata["version"]),
            sha256=str(metadata["sha256"]),
            trained_on=str(metadata["trained_on"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the metadata of the model bundle {folder.name} cannot be read") from error
    if metadata.get(METADATA_DIGEST, metadata_digest(metadata)) != metadata_digest(metadata):
        raise ModelError(f"the metadata of the model bundle {folder.name} were changed after it was sealed")
    if digest(folder) != info.sha256:
        raise ModelError(f"the model bundle {folder.name} is damaged: its files differ from its digest")
    return info, metadata


def read_parameters(name_or_path: str | Path, file_name: str, model: type[_Model]) -> _Model:
    """Return a YAML or JSON file of a bundle as a validated model.

    Raises
    ------
    ModelError
        The file is absent or not valid.
    """
    return read_file(bundle_folder(name_or_path), file_name, model)


def read_file(folder: Path, file_name: str, model: type[_Model]) -> _Model:
    """Return a YAML or JSON file of a folder, sealed or not yet, as a validated model.

    Raises
    ------
    ModelError
        The file is absent or not valid.
    """
    parse = json.loads if file_name.endswith(".json") else yaml.safe_load
    try:
        return model.model_validate(parse((folder / file_name).read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError(f"{file_name} of the model bundle {folder.name} is not valid") from error


def write_file(folder: Path, file_name: str, parameters: BaseModel) -> None:
    """Write a JSON file of a bundle that `read_file` reads; the folder is made if absent."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(parameters.model_dump(mode="json"), indent=1) + "\n"
    (folder / file_name).write_text(text, encoding="utf-8")


def seal(folder: Path, metadata: dict[str, Any]) -> None:
    """Write a bundle's metadata with the digests of its present files and of the metadata.

    Files become readable for all: weights are written for their owner alone, and a node is another user.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o444)
    sealed = {**metadata, "sha256": digest(folder), METADATA_DIGEST: metadata_digest(metadata)}
    text = json.dumps(sealed, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")


SCHEMA = 1
"""Layout of bundles that this program reads; ``schema`` in the metadata, 1 where absent."""


def told_of_start(info: BundleInfo, metadata: Mapping[str, Any], settings_key: str) -> dict[str, Any]:
    """Return what a bundle's metadata say of the bundle that its training went on from.

    Parameters
    ----------
    settings_key : str
        Where the metadata hold the settings of the earlier training; what that one came from itself
        is told, too.
    """
    kept = {key: metadata[key] for key in (settings_key, "started_from") if key in metadata}
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "trained_on": info.trained_on,
        **kept,
    }


class BundleKind(StrEnum):
    """Which part of the forecast a bundle serves; ``kind`` in the metadata."""

    SEGMENTER = "segmenter"
    PHASE = "phase"
    GENERATOR = "generator"
    SURVIVAL = "survival"
    COMPARISON = "comparison"
    IMAGE_VECTORS = "image_vectors"
    SECOND_OPINION = "second_opinion"


@dataclass(frozen=True, slots=True)
class BundleDescription:
    """What a bundle says of itself.

    Attributes
    ----------
    format : str
        Which program code reads its files, such as ``cox``; a key of `inference.models.catalogue.LOADERS`.
    schema : int
        Layout of the bundle; see `SCHEMA`.
    minimum_program : str
        Oldest version of this program that can run it, or empty.
    metadata : mapping
        All of the metadata.
    """

    folder: Path
    info: BundleInfo
    kind: BundleKind
    format: str
    schema: int
    minimum_program: str
    metadata: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Figures of the bundle's evaluation, or nothing."""
        found = self.metadata.get("metrics", {})
        return found if isinstance(found, Mapping) else {}


def describe(name_or_path: str | Path) -> BundleDescription:
    """Return what a bundle is, after its files were verified.

    Raises
    ------
    ModelError
        It is absent or damaged, or its metadata name no kind and format.
    """
    info, metadata = load_metadata(name_or_path)
    folder = bundle_folder(name_or_path)
    try:
        return BundleDescription(
            folder=folder,
            info=info,
            kind=BundleKind(metadata["kind"]),
            format=str(metadata["format"]),
            schema=int(metadata.get("schema", 1)),
            minimum_program=str(metadata.get("minimum_program", "")),
            metadata=metadata,
        )
    except KeyError as error:
        raise ModelError(f"the model bundle {info.name} does not say its {error.args[0]}") from error
    except (ValueError, TypeError) as error:
        known = ", ".join(BundleKind)
        raise ModelError(
            f"the metadata of the model bundle {info.name} are not valid; kinds are {known}"
        ) from error


def shipped_folders() -> tuple[Path, ...]:
    """Return the folders of all bundles that come with the product, by name."""
    return tuple(sorted(p.parent for p in _SHIPPED.glob(f"*/{METADATA}")))
