"""The segmenter that ships, on a patient from another simulator than the one it learned from."""

from __future__ import annotations

import numpy as np
import pytest

from inference.case import Phase
from inference.errors import ImplausibleSegmentation
from inference.models.unet import UnetSegmenter
from inference.results import Grid, Mask
from inference.simulation.patient import SimulatedPatient, simulate_patient
from inference.simulation.tissues import Structure


@pytest.fixture(scope="module")
def patient() -> SimulatedPatient:
    return simulate_patient(3)


@pytest.fixture(scope="module")
def segmenter() -> UnetSegmenter:
    return UnetSegmenter.from_bundle("segmenter")


def _grid(patient: SimulatedPatient) -> Grid:
    return Grid(patient.structures.shape, patient.affine, "1.2")


def _dice(a: Mask, b: Mask) -> float:
    return 2.0 * float(np.count_nonzero(a & b)) / float(np.count_nonzero(a) + np.count_nonzero(b))


def test_liver_and_tumours_of_a_simulated_patient_are_found(
    patient: SimulatedPatient, segmenter: UnetSegmenter
) -> None:
    values = np.asarray(patient.volumes[Phase.PORTAL_VENOUS], dtype=np.float32)
    found = segmenter.segment_volume(values, _grid(patient), "CT")
    liver, lesion = np.zeros(values.shape, bool), np.zeros(values.shape, bool)
    liver[found.box.slices] = found.liver
    lesion[found.box.slices] = found.lesion > 0
    truth = (patient.structures == Structure.LIVER) | (patient.tumour > 0)
    assert _dice(liver, truth) > 0.85
    assert _dice(lesion, patient.tumour > 0) > 0.4


def test_a_chest_has_no_liver_in_the_field_of_view(
    patient: SimulatedPatient, segmenter: UnetSegmenter
) -> None:
    """The uppermost slices hold heart and lungs."""
    truth = (patient.structures == Structure.LIVER) | (patient.tumour > 0)
    last = int(np.flatnonzero(truth.any(axis=(1, 2)))[-1])
    first = last + 2
    values = np.asarray(patient.volumes[Phase.PORTAL_VENOUS][first:], dtype=np.float32)
    assert len(values) >= 4, "the patient's images reach above the liver"
    affine = patient.affine.copy()
    affine[:3, 3] = affine[:3, 3] + first * affine[:3, 0]
    with pytest.raises(ImplausibleSegmentation, match="no liver in the field of view"):
        segmenter.segment_volume(values, Grid(values.shape, affine, "1.2"), "CT")
