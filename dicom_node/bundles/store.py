"""Installed bundles: folders below the data folder, named by digest and never changed.

Installing copies into a folder beside, flushes it to the disk, verifies the copy and renames it: a
folder that is there is whole. A job that has begun with a bundle is never disturbed, because nothing
here changes or removes an installed one that is whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.durable import flush, make_durable
from dicom_node.errors import ConfigurationError
from inference.bundle_store import BundleDescription, bundle_folder, describe, shipped_folders
from inference.errors import ModelError
from inference.models.catalogue import check_compatible

INCOMING = ".incoming-"
"""Folders of installations that are under way, or that were killed."""
DAMAGED = ".damaged-"
"""Folders that were put aside because their files differed from their digest."""


def models_folder(data_dir: Path) -> Path:
    """Return the folder of installed bundles."""
    return data_dir / "models"


def installed_folders(data_dir: Path) -> tuple[Path, ...]:
    """Return the folders of installed bundles, by digest."""
    folder = models_folder(data_dir)
    if not folder.is_dir():
        return ()
    return tuple(sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def all_folders(data_dir: Path) -> tuple[Path, ...]:
    """Return the folders of shipped bundles, by name, and of installed ones, by digest."""
    return (*shipped_folders(), *installed_folders(data_dir))


def verified(folder: Path) -> BundleDescription:
    """Return what a bundle is, after its files and its fitness for this program were checked.

    Raises
    ------
    ModelError
        It is absent, damaged or incompatible, or has a link where a file should be.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelError(f"{path.name} of the model bundle {folder.name} is no plain file")
    bundle = describe(folder)
    check_compatible(bundle)
    return bundle


def install(source: Path, data_dir: Path) -> BundleDescription:
    """Verify a bundle and copy it into the data folder; the same bundle again changes nothing.

    Raises
    ------
    ModelError
        The bundle is absent, damaged or incompatible, or one with the same weights that says other
        things of itself is installed; nothing was installed.
    ConfigurationError
        The bundle cannot be read, or the data folder cannot be written.
    """
    bundle = verified(bundle_folder(source.absolute()))
    target = models_folder(data_dir) / bundle.info.sha256
    if _is_whole(target):
        _same_words(bundle, describe(target))
    else:
        try:
            _copy_in(bundle, target)
        except OSError as error:
            raise ConfigurationError(f"the bundle cannot be installed: {error.strerror or error}") from error
    return describe(target)


def _same_words(bundle: BundleDescription, installed: BundleDescription) -> None:
    if dict(bundle.metadata) != dict(installed.metadata):
        raise ModelError(
            f"the files of {bundle.info.name} {bundle.info.version} are installed already, as "
            f"{installed.info.name} {installed.info.version}, whose metadata differ"
        )


def _is_whole(folder: Path) -> bool:
    try:
        return folder.is_dir() and describe(folder).info.sha256 == folder.name
    except ModelError:
        return False


def _copy_in(bundle: BundleDescription, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _staging(target.parent) as staging:
        copy = Path(
            shutil.copytree(bundle.folder, staging / "bundle", ignore=shutil.ignore_patterns("__pycache__"))
        )
        if verified(copy).info != bundle.info:
            raise ModelError(f"the model bundle {bundle.info.name} changed while it was copied")
        make_durable(copy)
        if target.exists():
            aside = Path(tempfile.mkdtemp(prefix=DAMAGED, dir=target.parent))
            target.rename(aside / target.name)
        copy.rename(target)
        flush(target.parent)
        flush(target.parent.parent)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    staging = Path(tempfile.mkdtemp(prefix=INCOMING, dir=folder))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
