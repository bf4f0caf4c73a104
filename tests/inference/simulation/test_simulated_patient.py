from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import ndimage

from inference.case import Phase
from inference.simulation.patient import PatientSpec, SimulatedPatient, simulate_patient
from inference.simulation.tissues import Structure

SMALL = PatientSpec(shape=(30, 104, 104), step_mm=(6.0, 3.6, 3.6))


@functools.cache
def simulated_once(seed: int) -> SimulatedPatient:
    return simulate_patient(seed, SMALL)


@pytest.fixture
def patient() -> SimulatedPatient:
    return simulated_once(7)


def voxel_ml(patient: SimulatedPatient) -> float:
    return float(np.prod(patient.spec.step_mm)) / 1000.0


def test_same_seed_gives_the_same_patient_and_another_seed_another(patient) -> None:
    again, other = simulate_patient(7, SMALL), simulated_once(1)
    for phase in SMALL.phases:
        assert patient.volumes[phase].tobytes() == again.volumes[phase].tobytes()
    assert patient.structures.tobytes() == again.structures.tobytes()
    assert (patient.structures != other.structures).mean() > 0.01


@pytest.mark.parametrize("seed", [1, 7])
def test_liver_and_tumours_have_sizes_of_anatomy(seed) -> None:
    simulated = simulated_once(seed)
    liver = simulated.liver
    assert 1000 < liver.sum() * voxel_ml(simulated) < 2300
    parts, _ = ndimage.label(liver)
    assert np.bincount(parts.ravel())[1:].max() / liver.sum() > 0.97
    touched = liver.any(axis=(1, 2))
    assert not touched[0]
    assert not touched[-1]
    assert set(np.unique(simulated.tumour)) == {0, 1, 2, 3}
    assert liver[simulated.tumour > 0].all()
    sizes = [(simulated.tumour == n).sum() for n in (1, 2, 3)]
    assert sizes == sorted(sizes, reverse=True)


def test_core_is_inside_the_largest_tumour(patient) -> None:
    assert patient.core.any()
    assert (patient.tumour[patient.core] == 1).mean() > 0.95


def test_enhancement_follows_the_phases(patient) -> None:
    arterial, portal = (patient.volumes[p] for p in (Phase.ARTERIAL, Phase.PORTAL_VENOUS))
    viable = (patient.tumour > 0) & ~patient.core
    normal = ndimage.binary_erosion(patient.liver & (patient.tumour == 0), iterations=2)

    def middle(volume, mask) -> float:
        return float(np.median(volume[mask]))

    assert middle(arterial, viable) > middle(arterial, normal) + 25
    assert middle(portal, viable) < middle(portal, normal) - 10
    aorta = patient.structures == Structure.AORTA
    cortex = patient.structures == Structure.KIDNEY_CORTEX
    medulla = patient.structures == Structure.KIDNEY_MEDULLA
    assert middle(arterial, aorta) > 250 > middle(portal, aorta) > 130
    assert middle(arterial, cortex) > middle(arterial, medulla) + 30
    assert middle(portal, patient.portal_vein) > middle(arterial, patient.portal_vein) + 20
    assert 15 < middle(portal, patient.core) < 50


def test_affine_is_axial_with_patient_left_and_back_and_head(patient) -> None:
    dz, dy, dx = patient.spec.step_mm
    assert np.allclose(patient.affine[:3, :3], [[0, 0, dx], [0, dy, 0], [dz, 0, 0]])
    # The liver lies on the patient's right: at negative x.
    centre = patient.affine @ np.array([*ndimage.center_of_mass(patient.liver), 1.0])
    spleen = patient.affine @ np.array([*ndimage.center_of_mass(patient.structures == Structure.SPLEEN), 1.0])
    assert centre[0] < 0 < spleen[0]
