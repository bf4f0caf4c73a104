"""Registration against a displacement that is known at every point."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from inference.errors import TrainingDataError
from inference.imaging.resampling import points_of, share_of
from inference.results import Grid
from inference.training.registration import (
    Mapping,
    Registered,
    RegistrationSettings,
    register,
)
from inference.training.registration_quality import RegistrationLimits, jacobian
from tests.builders.site_archive import MOVED, SHRUNK, TWO, Scan, Scene, scan

QUICK = RegistrationSettings(spacing_mm=4.5, elastic_steps=12, rigid_steps=30)


@pytest.fixture(scope="module")
def scans() -> tuple[Scan, Scan]:
    return scan(Scene(1, TWO)), scan(Scene(1, SHRUNK), MOVED, origin_mm=(-165.0, -140.0, -90.0))


@pytest.fixture(scope="module")
def registered(scans) -> Registered:
    before, after = scans
    return register(before.for_registration(), after.for_registration(), QUICK)


def errors_mm(before: Scan, mapping: Mapping) -> np.ndarray:
    """Distance of where liver without tumour is mapped to from where it truly lies."""
    points = points_of(before.grid)[:, before.liver & (before.tumour == 0)][:, ::15]
    return np.linalg.norm(mapping.at(points) - MOVED.to_follow_up(points), axis=0)


def test_target_registration_error(scans, registered):
    before, _ = scans
    still = Mapping(np.eye(4), registered.mapping.grid, 0 * registered.mapping.elastic)
    rigid = dataclasses.replace(registered.mapping, elastic=0 * registered.mapping.elastic)
    assert errors_mm(before, still).mean() > 10.0
    error = errors_mm(before, registered.mapping)
    assert error.mean() < 3.0
    assert np.percentile(error, 95) < 5.0
    assert error.mean() < 0.95 * errors_mm(before, rigid).mean()


def test_quality_passes_the_limits(registered):
    assert registered.quality.failures(RegistrationLimits()) == ()
    assert registered.quality.dice > registered.quality.dice_before
    assert registered.quality.jacobian_min > 0.2
    assert registered.quality.folding == 0.0


def test_lesions_keep_the_volume_they_have_on_the_follow_up(scans, registered):
    """The tumours shrank to a quarter; the elastic part must neither hide nor exaggerate it."""
    before, after = scans
    mapped = registered.mapping.on(before.grid)
    for number in (1, 2):
        own = float((after.tumour == number).sum())
        seen = float(share_of(after.tumour == number, after.grid, before.grid, mapped).sum())
        assert seen == pytest.approx(own, rel=0.03)


def test_same_scans_give_the_same_mapping(scans, registered):
    before, after = scans
    again = register(before.for_registration(), after.for_registration(), QUICK)
    assert np.array_equal(again.mapping.rigid, registered.mapping.rigid)
    assert np.array_equal(again.mapping.elastic, registered.mapping.elastic)
    assert again.quality == registered.quality


def test_another_patient_fails_the_limits(scans):
    before, after = scans
    half = after.liver.copy()
    half[: half.shape[0] // 2] = False
    other = dataclasses.replace(after.for_registration(), liver=half)
    found = register(before.for_registration(), other, QUICK)
    assert any("Dice" in reason for reason in found.quality.failures(RegistrationLimits()))


def test_an_empty_liver_is_refused(scans):
    before, after = scans
    empty = dataclasses.replace(after.for_registration(), liver=np.zeros_like(after.liver))
    with pytest.raises(TrainingDataError, match="no liver"):
        register(before.for_registration(), empty, QUICK)


def test_jacobian_of_known_mappings():
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = 2.0
    affine[3, 3] = 1.0
    grid = Grid((6, 7, 8), affine, "1")
    points = points_of(grid)
    stretch = points * np.array([1.5, 1.0, 0.5]).reshape(3, 1, 1, 1)
    assert jacobian(stretch, grid) == pytest.approx(np.full(grid.shape, 0.75))
    mirror = points * np.array([-1.0, 1.0, 1.0]).reshape(3, 1, 1, 1)
    assert (jacobian(mirror, grid) < 0).all()


@pytest.mark.slow
def test_target_registration_error_at_the_default_settings(scans):
    before, after = scans
    found = register(before.for_registration(), after.for_registration(), RegistrationSettings())
    assert errors_mm(before, found.mapping).mean() < 2.0
