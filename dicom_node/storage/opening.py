"""From settings to the store of a node."""

from __future__ import annotations

import shutil
from pathlib import Path

from dicom_node.errors import ConfigurationError
from dicom_node.intake.spool import FreeBytes, Spool, free_bytes
from dicom_node.settings import NodeSettings
from dicom_node.storage.local import LocalStore
from dicom_node.storage.remote import RemoteStore
from dicom_node.storage.store import Store

S3 = "s3://"
_SECONDS = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 3}}


def objects_root(settings: NodeSettings) -> Path:
    """Return the folder of files; where they are in object storage, that of what is local to a machine."""
    named = settings.storage.objects
    return Path(named) if named and not is_remote(settings) else settings.data_dir


def is_remote(settings: NodeSettings) -> bool:
    """Return whether the files are in object storage."""
    return settings.storage.objects.startswith(S3)


def is_shared(settings: NodeSettings) -> bool:
    """Return whether other machines may write where this one does."""
    return bool(settings.storage.objects)


def incoming_folder(settings: NodeSettings) -> Path:
    """Return the folder of temporary files of this machine's listener."""
    folder = objects_root(settings) / "spool" / "incoming"
    return folder / settings.storage.machine if is_shared(settings) else folder


def open_store(settings: NodeSettings, process: str) -> Store:
    """Open the store that the settings name.

    Parameters
    ----------
    process : str
        Name of this process for its temporary files; what it left there before is removed.

    Raises
    ------
    ConfigurationError
        The address cannot be used, or `hepatocast[s3]` is not installed.
    """
    if not is_remote(settings):
        return LocalStore(objects_root(settings), incoming_folder(settings))
    scratch = settings.data_dir / "scratch"
    _remove_of_dead(scratch)
    store = _s3(settings, scratch / process)
    store.sweep()
    return store


def _remove_of_dead(scratch: Path) -> None:
    """Remove the folders of processes that are gone; their names end with their numbers."""
    for folder in scratch.iterdir() if scratch.is_dir() else ():
        number = folder.name.rpartition("-")[2]
        if number.isdecimal() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _s3(settings: NodeSettings, scratch: Path) -> RemoteStore:
    try:
        import s3fs
        from aiohttp import ClientError as HttpError
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise ConfigurationError("storage.objects is in S3; install `hepatocast[s3]`") from error
    prefix = settings.storage.objects.removeprefix(S3).strip("/")
    if not prefix:
        raise ConfigurationError("storage.objects names no bucket: s3://bucket/prefix")
    files = s3fs.S3FileSystem(
        endpoint_url=settings.storage.s3_endpoint_url,
        config_kwargs=_SECONDS,
        use_listings_cache=False,  # other machines write too
        skip_instance_cache=True,
    )
    return RemoteStore(files, prefix, scratch, (BotoCoreError, ClientError, HttpError, TimeoutError))


def open_spool(settings: NodeSettings, process: str, free: FreeBytes = free_bytes) -> Spool:
    """Return the spool of the received objects, for a process of this name."""
    minimum = settings.listener.minimum_free_bytes
    if is_remote(settings):
        return Spool(settings.data_dir, minimum, free, "", open_store(settings, process))
    name = settings.storage.machine if is_shared(settings) else ""
    return Spool(objects_root(settings), minimum, free, name)
