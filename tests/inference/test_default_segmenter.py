"""The segmenter that ships, on a patient from another simulator than the one it learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_rescale

from inference.case import Phase
from inference.errors import ImplausibleSegmentation
from inference.models.unet import UnetSegmenter
from inference.results import Grid, Mask, Voxels
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


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_outlines_of_networks_that_saw_no_real_image_always_wait_for_a_person(
    segmenter: UnetSegmenter, modality: str
) -> None:
    assert segmenter.info.trained_on.startswith("simulated")
    assert "miss tumours" in segmenter.specs[modality].review


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


def _single_slice(path: Path) -> tuple[Voxels, Grid]:
    header = pydicom.dcmread(path)
    values = apply_rescale(header.pixel_array, header).astype(np.float32)[np.newaxis]
    row_mm, column_mm = (float(v) for v in header.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0] = (0, 0, float(header.SliceThickness))
    affine[:3, 1] = (0, row_mm, 0)
    affine[:3, 2] = (column_mm, 0, 0)
    affine[:3, 3] = [float(v) for v in header.ImagePositionPatient]
    return values, Grid(values.shape, affine, "1.2")


def test_real_slices_of_heart_and_lung_have_no_liver(needs_data, segmenter: UnetSegmenter) -> None:
    """A study of so few images never comes here; the network itself has to see that there is none."""
    for path in sorted(needs_data("hcc_tace_seg/first_slices").iterdir()):
        values, grid = _single_slice(path)
        with pytest.raises(ImplausibleSegmentation, match="no liver in the field of view"):
            segmenter.segment_volume(values, grid, "CT")
