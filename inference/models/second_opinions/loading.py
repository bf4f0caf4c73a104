"""The second readers that the settings name; one that cannot be read stays in the report as a refusal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.bundle_store import BundleKind
from inference.errors import ModelError
from inference.models.catalogue import load_model
from inference.models.protocols import SecondReader
from inference.results import AssessedPatient, BundleInfo, NotAssessed, Reason, SecondOpinion
from inference.settings import Regimen

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnreadableReader:
    """Stands for a second reader whose bundle cannot be read.

    Attributes
    ----------
    info : BundleInfo
        The name of the folder; nothing else is known.
    """

    info: BundleInfo
    refusal: NotAssessed

    def opinions(self, patient: AssessedPatient, regimens: tuple[Regimen, ...]) -> tuple[SecondOpinion, ...]:
        """Return the reason."""
        about = "A second opinion that the settings name and that cannot be asked."
        return (SecondOpinion(self.info.name, self.info, about, None, self.refusal),)


def load_readers(folders: Sequence[Path]) -> tuple[SecondReader, ...]:
    """Load second readers, each verified against its digest, in the order of the folders."""
    return tuple(_reader(folder) for folder in folders)


def reader_states(readers: Sequence[SecondReader]) -> tuple[tuple[str, str | None], ...]:
    """Return the name of each reader, and why it cannot be read; None where it can."""
    return tuple(
        (r.info.name, r.refusal.detail if isinstance(r, UnreadableReader) else None) for r in readers
    )


def _reader(folder: Path) -> SecondReader:
    try:
        reader: SecondReader = load_model(folder, BundleKind.SECOND_OPINION)
    except ModelError as error:
        _log.warning("a second opinion cannot be read: %s", error)
        info = BundleInfo(folder.name, "unknown", "", "unknown")
        return UnreadableReader(info, NotAssessed(Reason.MODEL_FAILED, _sentence(str(error))))
    return reader


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
