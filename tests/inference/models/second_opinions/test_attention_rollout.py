"""Attention and its rollout against small closed forms, and what a network must not see."""

from __future__ import annotations

import pytest
import torch

from inference.models.second_opinions.attention import BidirectionalBlock, attention_weights, rollout
from inference.models.second_opinions.cohort_networks import (
    Architecture,
    CohortNetwork,
    Inputs,
    NetworkSettings,
    network_of,
)

SMALL = NetworkSettings(side=12, patch=6, width=8, heads=2, bidirectional=1, joint=1, variables=3)


def inputs(n: int = 2) -> Inputs:
    drawn = torch.Generator().manual_seed(1)
    return Inputs(
        torch.rand(n, 2, 12, 12, generator=drawn),
        torch.ones(n, 2, dtype=torch.bool),
        torch.rand(n, 3, generator=drawn),
        torch.ones(n, 3, dtype=torch.bool),
    )


def network(architecture: Architecture) -> CohortNetwork:
    torch.manual_seed(0)
    return network_of(SMALL.model_copy(update={"architecture": architecture})).eval()


def test_rollout_of_one_uniform_layer() -> None:
    """(A + I) / 2 with A = 1/2 everywhere is 3/4 on the diagonal."""
    found = rollout([torch.full((1, 2, 2), 0.5)])
    torch.testing.assert_close(found, torch.tensor([[[0.75, 0.25], [0.25, 0.75]]]))


def test_rollout_of_two_uniform_layers() -> None:
    """The square of that matrix: 3/4 * 3/4 + 1/4 * 1/4 = 5/8."""
    found = rollout([torch.full((1, 2, 2), 0.5)] * 2)
    torch.testing.assert_close(found, torch.tensor([[[0.625, 0.375], [0.375, 0.625]]]))


def test_rollout_follows_a_path_from_the_first_layer_to_the_last() -> None:
    """Token 1 reads token 2 first, token 0 reads token 1 then: a quarter of token 2 arrives at token 0.

    In the other order nothing would arrive.
    """
    first = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 1]]])
    second = torch.tensor([[[0.0, 1, 0], [0, 1, 0], [0, 0, 1]]])
    torch.testing.assert_close(rollout([first, second])[0, 0], torch.tensor([0.5, 0.25, 0.25]))
    assert rollout([second, first])[0, 0, 2] == 0


def test_attention_is_softmax_of_scaled_products_over_usable_keys() -> None:
    query = torch.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])
    key = torch.tensor([[[[3.0, 0, 0, 0], [1.0, 0, 0, 0], [50.0, 0, 0, 0]]]])
    usable = torch.tensor([[True, True, False]])
    wanted = torch.softmax(torch.tensor([3.0, 1.0]), dim=0)  # 2 * 3 / sqrt(4), 2 * 1 / sqrt(4)
    found = attention_weights(query, key, usable)[0, 0, 0]
    torch.testing.assert_close(found, torch.cat([wanted, torch.zeros(1)]))


def test_both_kinds_of_tokens_attend_to_both_half_and_half() -> None:
    torch.manual_seed(0)
    block = BidirectionalBlock(8, 2, 0.0).eval()
    usable = torch.tensor([[True, True, False, True, True]])
    image, clinical, weights = block(torch.rand(1, 3, 8), torch.rand(1, 2, 8), usable)
    assert image.shape == (1, 3, 8)
    assert clinical.shape == (1, 2, 8)
    torch.testing.assert_close(weights[:, :, :3].sum(dim=2), torch.full((1, 5), 0.5))
    torch.testing.assert_close(weights[:, :, 3:].sum(dim=2), torch.full((1, 5), 0.5))
    assert not weights[:, :, 2].any()


@pytest.mark.parametrize("architecture", [Architecture.SELECTION, Architecture.VIT])
def test_a_phase_that_was_not_acquired_is_not_seen(architecture: Architecture) -> None:
    net, given = network(architecture), inputs()
    acquired = torch.tensor([[False, True], [True, True]])
    other = given.images.clone()
    other[0, 0] += 5.0
    answers = [net(Inputs(i, acquired, given.clinical, given.known)) for i in (given.images, other)]
    torch.testing.assert_close(answers[0], answers[1])
    patches, _variables = net.relevance(Inputs(given.images, acquired, given.clinical, given.known))
    assert not patches[0, 0].any()
    assert patches[1, 0].all()


def test_a_value_that_is_missing_is_not_seen_and_a_known_one_is() -> None:
    net, given = network(Architecture.SELECTION), inputs(1)
    changed = given.clinical.clone()
    changed[0, 1] = 4.0
    hidden = torch.tensor([[True, False, True]])
    unseen = [net(Inputs(given.images, given.acquired, c, hidden)) for c in (given.clinical, changed)]
    torch.testing.assert_close(unseen[0], unseen[1])
    seen = [net(Inputs(given.images, given.acquired, c, given.known)) for c in (given.clinical, changed)]
    assert not torch.allclose(seen[0], seen[1])


@pytest.mark.parametrize("architecture", [Architecture.VIT, Architecture.RESNET_LOGISTIC])
def test_comparators_read_what_they_should(architecture: Architecture) -> None:
    """The vision transformer sees no clinical value; both see the images."""
    net, given = network(architecture), inputs(1)
    darker = Inputs(given.images - 1.0, given.acquired, given.clinical, given.known)
    older = Inputs(given.images, given.acquired, given.clinical + 1.0, given.known)
    assert not torch.allclose(net(given), net(darker))
    assert torch.allclose(net(given), net(older)) == (architecture is Architecture.VIT)


def test_relevance_of_everything_is_one_with_the_answer_itself() -> None:
    net, given = network(Architecture.SELECTION), inputs()
    patches, variables = net.relevance(given)
    assert patches.shape == (2, 2, 2, 2)
    assert variables.shape == (2, 3)
    told = patches.sum(dim=(1, 2, 3)) + variables.sum(dim=1)
    # What is left belongs to the class token: in each of two layers half stays by the residual connection.
    assert ((told > 0) & (told < 0.75 + 1e-6)).all()
