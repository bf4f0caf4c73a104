from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from inference.models.flow.conditions import CONDITIONS, focus, nearest_lesion
from inference.models.flow.haar import doubled, haar, inverse_haar
from inference.models.flow.network import (
    FIELDS,
    GROUPS,
    MULTIPLE,
    REQUESTS,
    STATE,
    Convolution,
    Drawn,
    Entry,
    Exit,
    image_change,
    normalised,
)
from inference.models.flow.sampler import SamplerSettings, clean_state, regress, sample
from tests.builders.flow_bundles import random_network


def inputs(side: int = 32, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    half = side // 2
    fields = torch.rand((1, FIELDS, side, side, side), generator=generator)
    fields[:, 3:] *= 0.3
    return (
        fields,
        torch.rand((1, REQUESTS, half, half, half), generator=generator),
        torch.rand((1, CONDITIONS), generator=generator),
        torch.randn((1, 8 * STATE, half, half, half), generator=generator),
    )


def test_haar_bands_lose_nothing_and_keep_the_energy() -> None:
    x = torch.randn((2, 3, 8, 6, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bands = haar(x)
    assert bands.shape == (2, 24, 4, 3, 2)
    assert torch.allclose(inverse_haar(bands), x)
    assert float(bands.square().sum()) == pytest.approx(float(x.square().sum()))
    # The first band of a channel is its local mean.
    assert torch.allclose(bands[:, 0], 8**0.5 * torch.nn.functional.avg_pool3d(x[:, :1], 2)[:, 0])


def test_doubling_is_linear_interpolation() -> None:
    x = torch.randn((2, 3, 4, 6, 8), generator=torch.Generator().manual_seed(1))
    expected = functional.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
    assert torch.allclose(doubled(x), expected, atol=1e-5)


def test_normalisation_is_that_of_groups_and_keeps_the_layout() -> None:
    generator = torch.Generator().manual_seed(2)
    x = 5.0 + 3.0 * torch.randn((2, 16, 4, 6, 8), generator=generator)
    scale, shift = torch.randn((2, 2, 16), generator=generator)
    place = (2, 16, 1, 1, 1)
    expected = functional.group_norm(x, GROUPS) * (1.0 + scale.reshape(place)) + shift.reshape(place)
    found = normalised(x.contiguous(memory_format=torch.channels_last_3d), scale, shift)
    assert torch.allclose(found, expected, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("kernel", [1, 3])
def test_convolution_is_the_same_with_and_without_gradients(kernel) -> None:
    layer = Convolution(8, 16, kernel, padding=kernel // 2)
    x = torch.randn((1, 8, 4, 6, 8), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        quick = layer(x)
    assert torch.allclose(quick, layer(x), atol=1e-5)


def test_entry_and_exit_are_convolutions_of_single_voxels() -> None:
    x = torch.randn((2, 8, 4, 6, 8), generator=torch.Generator().manual_seed(4))
    entry, leaving = Entry(8, 16), Exit(16, 5)
    inside = entry(x)
    assert inside.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(inside, functional.conv3d(x, entry.weight, entry.bias), atol=1e-5)
    answer = leaving(inside)
    assert answer.is_contiguous()
    assert torch.allclose(answer, functional.conv3d(inside, leaving.weight, leaving.bias), atol=1e-5)


def test_image_follows_the_maps() -> None:
    baseline = torch.zeros((1, 3, 2, 2, 2))
    baseline[:, 0] = 1.0
    levels = torch.zeros((1, 8, 2, 2, 2))
    levels[:, 0], levels[:, 2], levels[:, 4] = 0.5, -0.7, 2.5
    unchanged = image_change(baseline, baseline, levels)
    assert not unchanged.any()
    dead = torch.zeros_like(baseline)
    dead[:, 1] = 1.0
    # Viable tumour gives way to dead tumour: the difference of their levels.
    assert torch.allclose(image_change(dead, baseline, levels)[:, 0], torch.tensor(-1.2))
    oil = torch.zeros_like(baseline)
    oil[:, 2] = 1.0
    assert torch.allclose(image_change(oil, baseline, levels)[:, 0], torch.tensor(2.0))


def test_answer_is_a_map_of_the_same_shape_and_depends_on_request_regimen_and_noise() -> None:
    network = random_network().eval()
    fields, requests, conditions, noise = inputs()
    settings = SamplerSettings(steps=2)

    def drawn(r: torch.Tensor, c: torch.Tensor, n: torch.Tensor) -> Drawn:
        return sample(network, fields, r, c, n, settings)

    first = drawn(requests, conditions, noise)
    assert first.fractions.shape == (1, 3, 32, 32, 32)
    assert float(first.fractions.min()) >= 0.0
    assert float(first.fractions.sum(dim=1).max()) <= 1.0 + 1e-5
    again = drawn(requests, conditions, noise)
    assert torch.equal(first.logits, again.logits)
    assert torch.equal(first.levels, again.levels)
    for other in (
        drawn(requests + 1.0, conditions, noise),
        drawn(requests, conditions + 1.0, noise),
        drawn(requests, conditions, -noise),
    ):
        assert not torch.allclose(first.logits, other.logits)


def test_untrained_network_keeps_the_baseline() -> None:
    network = random_network().eval()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    fields, requests, conditions, _ = inputs()
    fields[:, 3:] = (fields[:, 3:] > 0.2).float() / 3.0
    answer = regress(network, fields, requests, conditions)
    # Shares of the baseline, softened by the prior that keeps their logarithm finite.
    assert torch.allclose(answer.fractions, fields[:, 3:], atol=0.06)
    assert not clean_state(answer, fields)[:, 24:].any()


def test_gradients_reach_every_weight() -> None:
    network = random_network()
    fields, requests, conditions, noise = inputs(16)
    answer = network(fields, requests, conditions, noise, torch.full((1,), 0.5))
    (answer.logits.square().mean() + answer.levels.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name


def test_box_holds_the_lesions_and_suits_the_network() -> None:
    lesion = np.zeros((96, 96, 96), np.uint8)
    lesion[3:20, 40:50, 70:95] = 2
    box = focus(lesion)
    assert all((s.stop - s.start) % MULTIPLE == 0 and s.start % 2 == 0 for s in box)
    assert lesion[box].sum() == lesion.sum()
    assert max(s.stop for s in box) <= 96


def test_surroundings_belong_to_the_nearest_lesion() -> None:
    lesion = np.zeros((4, 4, 60), np.uint8)
    lesion[:, :, 5], lesion[:, :, 20] = 1, 2
    nearest = nearest_lesion(lesion)
    assert nearest[0, 0, 7] == 1
    assert nearest[0, 0, 18] == 2
    assert nearest[0, 0, 40] == 0  # 45 mm away
    assert not nearest_lesion(np.zeros_like(lesion)).any()
