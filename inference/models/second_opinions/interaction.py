"""Which patients do better with one treatment than with another: covariates that interact with it.

The log odds of an outcome are split in two, ``m(x) + g(x) * t / 2`` with t = 1 under one treatment and -1
under the other: m belongs to the patient whatever is given, and g is the log odds ratio of the treatments
for this patient. Tian et al. show that g is found by modifying covariates with t / 2, whatever m is, when
treatment is randomised; where it is not, patients are weighted so that the groups are alike.

References
----------
Tian, Alizadeh, Gentles & Tibshirani 2014, J Am Stat Assoc 109:1517, sections 2.1 and 2.3.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from inference.settings import Frozen


class InteractionSettings(Frozen):
    """Size of an `InteractionNetwork`."""

    inputs: int = Field(gt=0)
    hidden: int = Field(8, ge=0, description="units of the hidden layer; 0 for linear functions")
    dropout: float = Field(0.3, ge=0, lt=1)


class InteractionNetwork(nn.Module):
    """The functions m and g: a common hidden layer, and a line for each."""

    def __init__(self, settings: InteractionSettings) -> None:
        super().__init__()
        self.settings = settings
        width = settings.hidden or settings.inputs
        self.trunk = (
            nn.Sequential(
                nn.Linear(settings.inputs, settings.hidden), nn.Tanh(), nn.Dropout(settings.dropout)
            )
            if settings.hidden
            else nn.Identity()
        )
        self.own = nn.Linear(width, 1)
        self.interaction = nn.Linear(width, 1)
        # Before it has seen anything, no patient differs from another, nor one treatment from the other.
        for line in (self.own, self.interaction):
            nn.init.zeros_(line.weight)
            nn.init.zeros_(line.bias)

    def forward(self, covariates: Tensor) -> tuple[Tensor, Tensor]:
        """Return m and g, (n,) each, of standardised covariates, (n, inputs)."""
        hidden = self.trunk(covariates)
        return self.own(hidden)[:, 0], self.interaction(hidden)[:, 0]


def log_odds(own: Tensor, interaction: Tensor, treatment: Tensor) -> Tensor:
    """Return the log odds of the outcome under a treatment, 1 or -1."""
    return own + 0.5 * treatment * interaction


def interaction_loss(
    network: InteractionNetwork, covariates: Tensor, treatment: Tensor, outcome: Tensor, weight: Tensor
) -> Tensor:
    """Return the weighted mean of the negative log-likelihood.

    Parameters
    ----------
    treatment : Tensor, (n,)
        1 or -1.
    outcome : Tensor, (n,)
        1 or 0.
    weight : Tensor, (n,)
        1 for each where treatment was randomised.
    """
    own, interaction = network(covariates)
    logit = log_odds(own, interaction, treatment)
    each = nn.functional.binary_cross_entropy_with_logits(logit, outcome, reduction="none")
    return torch.sum(weight * each) / torch.sum(weight)
