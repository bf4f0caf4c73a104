"""Which images of a cohort the generator reads and draws: arterial and portal venous, no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from inference.case import Phase
from inference.errors import TrainingDataError
from inference.models.flow.study import CHANNELS, channel_of
from inference.training.cohort import NO_VALUE, Cohort, PatientImages


def drawn_images(cohort: Cohort, patient_id: str) -> PatientImages:
    """Return a patient whose images are the channels of the network, (2, z, y, x).

    A channel that the cohort does not have is `NO_VALUE`; others, such as T2, are left out.

    Raises
    ------
    TrainingDataError
        The cohort has neither channel.
    """
    places = _places(cohort.info.phases)
    patient = cohort.images(patient_id)
    return replace(
        patient,
        images=_taken(patient.images, places),
        clean=None if patient.clean is None else _taken(patient.clean, places),
        follow_ups=tuple(replace(f, images=_taken(f.images, places)) for f in patient.follow_ups),
    )


def _places(phases: Sequence[str]) -> tuple[int | None, ...]:
    """Return where each channel of the network is among the phases of a cohort."""
    channels = [channel_of(Phase(p)) for p in phases]
    places = tuple(channels.index(c) if c in channels else None for c in range(len(CHANNELS)))
    if all(place is None for place in places):
        raise TrainingDataError(
            f"the cohort has neither an arterial nor a portal venous phase (it has {', '.join(phases)})"
        )
    return places


def _taken(images: npt.NDArray[np.int16], places: Sequence[int | None]) -> npt.NDArray[np.int16]:
    if list(places) == list(range(len(images))):
        return images
    absent = np.full(images.shape[1:], NO_VALUE, dtype=np.int16)
    return np.stack([absent if place is None else images[place] for place in places])
