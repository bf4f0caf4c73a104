"""Received files whose bytes changed on the disk: put aside, so that the same object can come again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from dicom_node.digests import data_set_sha256
from dicom_node.intake.spool import aside
from dicom_node.jobs.ledger import InputFile
from dicom_node.storage.store import Store

_log = logging.getLogger(__name__)

SEND_AGAIN = "received files were damaged on the disk of this node and are put aside; send the study again"


def put_damaged_aside(store: Store, inputs: Iterable[InputFile], files: Mapping[str, Path]) -> int:
    """Put aside each received file that is not what was received; return how many are damaged or gone.

    Parameters
    ----------
    files : mapping
        The file on this machine of each input, by its path in the store.
    """
    damaged = 0
    for one in inputs:
        file = files[one.path]
        if file.is_file() and data_set_sha256(file) == one.sha256:
            continue
        damaged += 1
        _log.error("%s is not what was received; put aside", one.path)
        store.forget([one.path])
        if store.size(one.path) is not None:
            store.move(one.path, aside(one.path))
    return damaged
