from __future__ import annotations

import numpy as np
import torch

from inference.models.second_opinions.grad_cam import ENLARGED, grad_cam, overlay


def test_a_map_is_weighted_by_the_mean_gradient_of_its_channel() -> None:
    maps = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]]])

    # d output / d maps is 3 / 4 in the first channel and -1 / 4 in the second, everywhere.
    found = grad_cam(maps, lambda m: 3 * m[:, 0].mean() - m[:, 1].mean(), (2, 2))
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.0, -2 / 3]], atol=1e-6)


def test_an_output_that_no_map_changes_has_an_empty_map() -> None:
    maps = torch.ones(1, 2, 3, 3)
    assert (grad_cam(maps, lambda m: 0.0 * m.sum(), (6, 6)) == 0).all()


def test_what_speaks_for_the_output_is_red_and_against_it_blue() -> None:
    slices = np.full((3, 8, 8), 128, dtype=np.uint8)
    slices[2] = 0
    signed = np.zeros((8, 8))
    signed[:, :3], signed[:, 5:] = 1.0, -1.0
    picture = overlay(slices, signed).astype(int)
    assert picture.shape == (8 * ENLARGED, 8 * ENLARGED, 3)
    assert picture[0, 0, 0] > picture[0, 0, 2]
    assert picture[0, -1, 2] > picture[0, -1, 0]
    middle = picture[0, 4 * ENLARGED]
    assert middle.max() - middle.min() < 20
