"""Attention between image tokens and clinical tokens, with the weights kept; and their rollout.

References
----------
Zhou et al. 2023, Nat Biomed Eng 7:743 (bidirectional multimodal attention); Abnar & Zuidema 2020, ACL,
section 3 (rollout).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _Heads(nn.Module):
    """Queries, keys and values of one kind of tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.parts = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, (n, heads, tokens, width of a head) each."""
        n, count, width = tokens.shape
        parts = self.parts(self.norm(tokens)).reshape(n, count, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def joined(self, found: Tensor) -> Tensor:
        """Return the tokens (n, tokens, width) of what each head found."""
        n, heads, count, width = found.shape
        joined: Tensor = self.out(found.transpose(1, 2).reshape(n, count, heads * width))
        return joined


def attention_weights(query: Tensor, key: Tensor, usable: Tensor) -> Tensor:
    """Return the weights of a query over keys, (n, heads, queries, keys); 0 for keys that are not usable.

    Parameters
    ----------
    usable : Tensor of bool, (n, keys)
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return torch.softmax(scores.masked_fill(~usable[:, None, None, :], -1e9), dim=-1)


class _Perceptron(nn.Sequential):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )


class BidirectionalBlock(nn.Module):
    """Image tokens attend to images and to clinical values, and clinical tokens to both, half and half."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.image, self.clinical = _Heads(width, heads), _Heads(width, heads)
        self.image_perceptron = _Perceptron(width, dropout)
        self.clinical_perceptron = _Perceptron(width, dropout)

    def forward(self, image: Tensor, clinical: Tensor, usable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image tokens, clinical tokens, and the weights.

        Parameters
        ----------
        image, clinical : Tensor, (n, a, width) and (n, b, width)
        usable : Tensor of bool, (n, a + b)

        Returns
        -------
        tokens of the two kinds, and weights (n, a + b, a + b), the mean over heads; rows sum to 1
        """
        count = image.shape[1]
        qi, ki, vi = self.image.split(image)
        qc, kc, vc = self.clinical.split(clinical)
        seen, told = usable[:, :count], usable[:, count:]
        rows, found = [], []
        for query in (qi, qc):
            of_image, of_clinical = attention_weights(query, ki, seen), attention_weights(query, kc, told)
            found.append(0.5 * (of_image @ vi) + 0.5 * (of_clinical @ vc))
            rows.append(0.5 * torch.cat([of_image, of_clinical], dim=-1).mean(dim=1))
        image = image + self.image.joined(found[0])
        clinical = clinical + self.clinical.joined(found[1])
        image = image + self.image_perceptron(image)
        clinical = clinical + self.clinical_perceptron(clinical)
        return image, clinical, torch.cat(rows, dim=1)


class JointBlock(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = _Heads(width, heads)
        self.perceptron = _Perceptron(width, dropout)

    def forward(self, tokens: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens (n, t, width), and the weights (n, t, t), the mean over heads."""
        query, key, value = self.attention.split(tokens)
        weights = attention_weights(query, key, usable)
        tokens = tokens + self.attention.joined(weights @ value)
        return tokens + self.perceptron(tokens), weights.mean(dim=1)


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Return how much each input token reaches each output token, (n, t, t); rows sum to 1.

    The residual connection of a layer is the identity: its weights A count as (A + I), each row over its
    sum, and layers are multiplied from the first to the last.

    Parameters
    ----------
    layers : sequence of Tensor, (n, t, t)
        Weights of each layer, the first layer first; rows sum to 1.
    """
    first = layers[0]
    identity = torch.eye(first.shape[-1], dtype=first.dtype, device=first.device)
    reached = identity.expand_as(first)
    for weights in layers:
        mixed = weights + identity
        reached = (mixed / mixed.sum(dim=-1, keepdim=True)) @ reached
    return reached
