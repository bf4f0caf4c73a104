"""Interaction of covariates with treatment against closed forms of two-by-two tables."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inference.models.second_opinions.delicaite import Group, group_of
from inference.models.second_opinions.interaction import (
    InteractionNetwork,
    InteractionSettings,
    interaction_loss,
    log_odds,
)

# Patients of a binary covariate and a treatment: with and without progression.
TABLE = {(0, 1): (30, 10), (0, -1): (10, 30), (1, 1): (8, 24), (1, -1): (20, 20)}


def rows() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return covariate, treatment, outcome and weight: one row a cell, weighted by its patients."""
    cells = [(z, t, y, n) for (z, t), counts in TABLE.items() for y, n in zip((1, 0), counts, strict=True)]
    z, t, y, n = torch.tensor(cells, dtype=torch.float32).T
    return z[:, None], t, y, n


def fitted(parts: tuple[Tensor, Tensor, Tensor, Tensor]) -> InteractionNetwork:
    network = InteractionNetwork(InteractionSettings(inputs=1, hidden=0))
    optimiser = torch.optim.LBFGS(
        network.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = interaction_loss(network, *parts)
        loss.backward()
        return loss

    optimiser.step(closure)
    return network


def log_odds_ratio(z: int) -> float:
    (a, b), (c, d) = TABLE[z, 1], TABLE[z, -1]
    return math.log(a * d / (b * c))


def test_interaction_is_the_log_odds_ratio_of_each_group() -> None:
    """With two groups and straight lines the model is saturated, so the maximum is known exactly."""
    own, interaction = fitted(rows())(torch.tensor([[0.0], [1.0]]))
    assert interaction.tolist() == pytest.approx([log_odds_ratio(0), log_odds_ratio(1)], abs=2e-3)
    assert interaction[0] > 0 > interaction[1]
    for z in (0, 1):
        under_first = log_odds(own[z], interaction[z], torch.tensor(1.0))
        a, b = TABLE[z, 1]
        assert float(under_first.detach()) == pytest.approx(math.log(a / b), abs=2e-3)


def test_weights_are_repeated_patients() -> None:
    z, t, y, n = rows()
    often = n.round().long()
    repeated = tuple(part.repeat_interleave(often, dim=0) for part in (z, t, y))
    whole = (repeated[0], repeated[1], repeated[2], torch.ones(int(often.sum())))
    network = InteractionNetwork(InteractionSettings(inputs=1, hidden=3, dropout=0.0))
    with torch.no_grad():
        weighted, plain = interaction_loss(network, z, t, y, n), interaction_loss(network, *whole)
    torch.testing.assert_close(weighted, plain)


def test_a_new_network_tells_nobody_from_anybody() -> None:
    own, interaction = InteractionNetwork(InteractionSettings(inputs=4)).eval()(torch.randn(5, 4))
    assert not own.any()
    assert not interaction.any()


@pytest.mark.parametrize(
    ("interaction", "treatment", "group"),
    [
        (0.7, 1.0, Group.ALTER),
        (0.7, -1.0, Group.MAINTAIN),
        (-0.7, 1.0, Group.MAINTAIN),
        (-0.7, -1.0, Group.ALTER),
        (0.0, 1.0, Group.MAINTAIN),
    ],
)
def test_group_is_alter_where_the_other_treatment_has_lower_odds(
    interaction: float, treatment: float, group: Group
) -> None:
    assert group_of(interaction, treatment) is group
