from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from inference.models.flow.conditions import CONDITIONS, focus, nearest_lesion
from inference.models.flow.haar import doubled, haar, inverse_haar
from inference.models.flow.layers import GROUPS, Convolution, Entry, Exit, normalised
from inference.models.flow.network import (
    FIELDS,
    MULTIPLE,
    REQUEST_FLOOR,
    REQUESTS,
    STATE,
    Drawn,
    evidence,
    image_change,
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


def asked(total: float, dead: float, oil: float) -> torch.Tensor:
    """Return requests of a lesion with these volumes over its baseline's, as `request_maps` paints them."""
    maps = torch.zeros((1, REQUESTS, 16, 16, 16))
    maps[:, 1], maps[:, 2], maps[:, 3] = dead, oil, np.log(total + REQUEST_FLOOR)
    return maps


@pytest.mark.parametrize(
    ("total", "dead", "oil", "shares"),
    [
        (1.0, 0.0, 0.0, (1.0, 0.0, 0.0)),
        (1.0, 0.5, 0.2, (0.3, 0.5, 0.2)),
        (0.5, 0.2, 0.0, (0.3, 0.2, 0.0)),
        (2.0, 1.0, 0.0, (0.5, 0.5, 0.0)),
    ],
    ids=["kept", "dying", "shrinking", "growing"],
)
def test_answers_depart_from_the_make_up_that_is_requested(total, dead, oil, shares) -> None:
    network = random_network().eval()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    torch.nn.init.zeros_(network.direct.weight)
    fields, _, conditions, _ = inputs()
    fields[:, 3:] = 0.0
    fields[:, 3, 8:24, 8:24, 8:24] = 1.0
    answer = regress(network, fields, asked(total, dead, oil), conditions)
    inside = answer.fractions[0, :, 8:24, 8:24, 8:24].mean(dim=(1, 2, 3))
    # Softened by the prior that keeps logarithms finite.
    assert torch.allclose(inside, torch.tensor(shares), atol=0.06)
    assert float(answer.fractions[0, :, :8].max()) < 0.03
    if shares[0] == 1.0:
        assert not clean_state(answer, fields)[:, 24:].any()


def told_by(state: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Return the expected clean values, (batch, 50, z, y, x)."""
    return torch.cat([w[:, None, None, None, None] * v for w, v in evidence(state, sigma)], dim=1)


def test_evidence_is_the_expected_clean_state() -> None:
    # Clean values of whole lesions, constant over the surroundings that are averaged.
    generator = torch.Generator().manual_seed(0)
    lesions = 2.0 * torch.randn((400, 8 * STATE, 1, 1, 1), generator=generator)
    clean = lesions.expand(-1, -1, 9, 9, 9)
    for level in (0.9, 0.5):
        sigma = torch.full((len(clean),), level)
        noise = torch.randn(clean.shape, generator=generator)
        told = told_by((1.0 - level) * clean + level * noise, sigma)[:, :, 4, 4, 4]
        wanted = clean[:, :, 4, 4, 4]
        for part, target in (
            (told[:, : 8 * STATE], wanted),
            (told[:, 8 * STATE : 9 * STATE], wanted[:, ::8]),
            (told[:, 9 * STATE :], wanted[:, ::8]),
        ):
            # The best estimate: what it leaves over is unrelated to it.
            slope = float((part * target).sum() / part.square().sum())
            assert slope == pytest.approx(1.0, abs=0.12)
    assert torch.allclose(told_by(clean, torch.zeros(len(clean)))[:, : 8 * STATE], clean)
    assert not told_by(noise, torch.ones(len(clean))).any()


def test_a_brighter_lesion_has_a_brighter_change() -> None:
    # Normalisation inside the network forgets brightness; the direct path does not.
    network = random_network().eval()
    fields, requests, conditions, noise = inputs()
    states = torch.cat([noise, 3.0 * noise])
    told = told_by(states, torch.full((2,), 0.5))
    assert torch.allclose(told[1], 3.0 * told[0], atol=1e-4)
    torch.nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        network.direct.weight[-8:] = 0.1
    sigma = torch.full((1,), 0.5)
    levels = [network(fields, requests, conditions, s[None], sigma).levels for s in states]
    calm = network(fields, requests, conditions, torch.zeros_like(noise), sigma).levels
    assert torch.allclose(levels[1] - calm, 3.0 * (levels[0] - calm), atol=1e-3)


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
