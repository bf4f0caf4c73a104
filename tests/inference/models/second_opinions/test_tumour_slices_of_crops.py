from __future__ import annotations

import numpy as np
import torch

from inference.models.outcome.crops import PatientCrop
from inference.models.second_opinions.residual import Depth, ResidualSettings, SliceNetwork
from inference.models.second_opinions.slice_inputs import as_tensor, tumour_slices

_SIDE = 16


def _crop(slices: dict[int, int]) -> PatientCrop:
    """A crop whose tumour has so many voxels in each slice."""
    lesion = np.zeros((_SIDE, _SIDE, _SIDE), dtype=np.uint8)
    for z, area in slices.items():
        lesion[z].ravel()[:area] = 1
    images = np.full((2, _SIDE, _SIDE, _SIDE), 100.0, dtype=np.float32)
    images[0] = np.nan
    fractions = np.zeros((3, *lesion.shape), dtype=np.float32)
    fractions[0] = lesion
    return PatientCrop(images, np.ones(lesion.shape, np.float32), fractions, lesion)


def test_slices_hold_tumour_and_the_largest_is_among_them() -> None:
    slices, largest = tumour_slices(_crop({3: 5, 4: 8, 5: 40, 6: 9, 9: 2}), "CT", 3)
    areas = (slices[:, 2] > 0).sum(axis=(1, 2)).tolist()
    assert areas[0] == 5
    assert areas[-1] == 2
    assert areas[largest] == 40
    assert len(slices) == 3


def test_few_slices_are_taken_once_each() -> None:
    slices, largest = tumour_slices(_crop({7: 4}), "CT", 8)
    assert slices.shape == (1, 3, _SIDE, _SIDE)
    assert largest == 0


def test_without_tumour_there_are_no_slices() -> None:
    slices, _largest = tumour_slices(_crop({}), "CT", 8)
    assert slices.shape == (0, 3, _SIDE, _SIDE)


def test_a_phase_that_was_not_acquired_is_nothing_and_not_dark() -> None:
    slices, _largest = tumour_slices(_crop({7: 4}), "CT", 1)
    seen = as_tensor(slices)
    assert (seen[:, 0] == 0).all()
    # 100 HU is the middle of the window.
    assert seen[:, 1].abs().max() < 0.01
    assert as_tensor(np.full((1, 3, 2, 2), 1, np.uint8))[0, 0, 0, 0] == -1.0


def test_the_published_networks_have_their_size() -> None:
    known = {Depth.RESNET50: 23_508_032, Depth.RESNET101: 42_500_160}
    for depth, count in known.items():
        settings = ResidualSettings(depth=depth)
        assert settings.features == 2048
        network = SliceNetwork(settings)
        assert sum(p.numel() for p in network.parameters()) == count
        with torch.no_grad():
            assert network.eval().maps(torch.zeros(1, 3, 96, 96)).shape == (1, 2048, 6, 6)
