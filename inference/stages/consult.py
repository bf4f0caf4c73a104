"""Ask the second readers, beside the forecast: what they say changes nothing of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from inference.errors import InferenceError
from inference.models.protocols import SecondReader
from inference.results import AssessedPatient, NotAssessed, Reason, SecondOpinion
from inference.settings import Regimen

_log = logging.getLogger(__name__)

_FAILURES = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a reader of other authors may fail with: a second opinion must never cost the study its forecast."""


def consult(
    patient: AssessedPatient, regimens: Sequence[Regimen], readers: Sequence[SecondReader]
) -> tuple[SecondOpinion, ...]:
    """Return what every reader says, in the order of the readers.

    A reader that fails is one opinion that was not assessed, with the reason.
    """
    return tuple(opinion for reader in readers for opinion in _asked(reader, patient, tuple(regimens)))


def _asked(
    reader: SecondReader, patient: AssessedPatient, regimens: tuple[Regimen, ...]
) -> tuple[SecondOpinion, ...]:
    try:
        return reader.opinions(patient, regimens)
    except InferenceError as error:
        _log.warning("the second reader %s has no opinion: %s", reader.info.name, error)
        detail = f"The system could not be asked: {error}."
    except _FAILURES as error:
        # The words of such an error may hold anything, a patient's values included; its kind does not.
        _log.warning("the second reader %s failed: %s", reader.info.name, type(error).__name__)
        detail = f"The system failed ({type(error).__name__})."
    refusal = NotAssessed(Reason.MODEL_FAILED, detail)
    return (SecondOpinion(reader.info.name, reader.info, "A second opinion.", None, refusal),)
