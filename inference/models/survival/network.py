"""The network of the survival model: what the linear part cannot say.

Clinical variables attend to each other and are pooled by gated attention. The pooled vector, the text,
the regimen, and images, laboratory values and angiographies with their times then form a series that a
Transformer reads; gates say how much each modality adds. The last layer begins
at 0, so that an untrained network changes nothing.

The output modifies log hazards: a constant effect, and effects that grow, or grow and fall, along the
intervals of the grid.

References
----------
Vaswani et al. 2017, arXiv:1706.03762; Ilse et al. 2018, arXiv:1802.04712, equation 9 (gated attention).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from inference.models.survival.tokens import DatedLayout, DatedTokens, Layout, Tokens, modalities
from inference.results import FloatArray

SHAPES = 3
"""How effects may change along the intervals: constant, linear, quadratic."""
_TIME_WAVES = 4
_LONGEST_MONTHS = 48.0


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """Size of a network."""

    width: int = 32
    heads: int = 4
    clinical_layers: int = 1
    series_layers: int = 1
    dropout: float = 0.2


@dataclass(frozen=True, slots=True)
class DatedBatch:
    """Dated tokens as tensors; see `inference.models.survival.tokens.DatedTokens` for the shapes."""

    features: Tensor
    kind: Tensor
    months: Tensor
    known: Tensor

    def of(self, patients: Tensor) -> DatedBatch:
        """Return some of the patients."""
        return DatedBatch(*(getattr(self, name)[patients] for name in DatedBatch.__slots__))


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Tokens as tensors; see `inference.models.survival.tokens.Tokens` for the shapes."""

    clinical: Tensor
    text: Tensor
    text_known: Tensor
    images: Tensor
    kind: Tensor
    months: Tensor
    image_known: Tensor
    regimen: Tensor
    beside: Mapping[str, DatedBatch] = field(default_factory=dict)

    def of(self, patients: Tensor) -> TokenBatch:
        """Return some of the patients."""
        own = {name: getattr(self, name)[patients] for name in TokenBatch.__slots__ if name != "beside"}
        return TokenBatch(**own, beside={name: part.of(patients) for name, part in self.beside.items()})


@dataclass(frozen=True, slots=True)
class Effects:
    """Output for n patients and E end points.

    Attributes
    ----------
    effects : Tensor, (n, E, SHAPES)
    variable_attention : Tensor, (n, V)
        Share of each clinical variable in the pooled vector.
    image_attention : Tensor, (n, K)
        Share of each image among the images; 0 for those that are missing.
    gates : Tensor, (n, M)
        How far the gate of each modality is open, 0 to 1; 0 for those that are missing.
    """

    effects: Tensor
    variable_attention: Tensor
    image_attention: Tensor
    gates: Tensor


def as_batch(tokens: Tokens) -> TokenBatch:
    """Turn arrays into tensors."""
    text = torch.from_numpy(np.nan_to_num(tokens.text))
    known = np.isfinite(tokens.text).all(axis=1) & (tokens.text.shape[1] > 0)
    images = _dated(tokens.images)
    return TokenBatch(
        clinical=torch.from_numpy(np.ascontiguousarray(tokens.clinical)),
        text=text,
        text_known=torch.from_numpy(known),
        images=images.features,
        kind=images.kind,
        months=images.months,
        image_known=images.known,
        regimen=torch.from_numpy(tokens.regimen.astype(np.int64)),
        beside={name: _dated(part) for name, part in tokens.beside.items()},
    )


def _dated(tokens: DatedTokens) -> DatedBatch:
    features = np.where(tokens.known[:, :, None], np.nan_to_num(tokens.features), 0.0)
    return DatedBatch(
        torch.from_numpy(features.astype(np.float32)),
        torch.from_numpy(tokens.kind.astype(np.int64)),
        torch.from_numpy(np.nan_to_num(tokens.months).astype(np.float32)),
        torch.from_numpy(tokens.known),
    )


def time_shapes(intervals: int) -> FloatArray:
    """Legendre polynomials of degree 0, 1 and 2 over the intervals of a grid, (J, SHAPES)."""
    u = (2.0 * np.arange(intervals) + 1.0) / intervals - 1.0
    return np.stack((np.ones_like(u), u, 1.5 * u**2 - 0.5), axis=1)


def _time_code(months: Tensor) -> Tensor:
    """Months as sines and cosines, (..., 2 * _TIME_WAVES + 1); the first says how late, up to 1."""
    late = (months / _LONGEST_MONTHS).clamp(-0.25, 1.0)
    angles = late[..., None] * math.pi * 2.0 ** torch.arange(_TIME_WAVES, device=months.device)
    return torch.cat((late[..., None], torch.sin(angles), torch.cos(angles)), dim=-1)


class _Block(nn.Module):
    """Attention over tokens that are known, and a perceptron; both added to what comes in."""

    def __init__(self, size: NetworkSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.before_attention = nn.LayerNorm(size.width)
        self.in_projection = nn.Linear(size.width, 3 * size.width)
        self.out_projection = nn.Linear(size.width, size.width)
        self.before_perceptron = nn.LayerNorm(size.width)
        self.perceptron = nn.Sequential(
            nn.Linear(size.width, 2 * size.width),
            nn.GELU(),
            nn.Dropout(size.dropout),
            nn.Linear(2 * size.width, size.width),
        )
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Map tokens (n, T, width); `known` is (n, T), and at least one token of each patient is."""
        n, tokens, width = x.shape
        qkv = self.in_projection(self.before_attention(x))
        q, k, v = qkv.view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=known[:, None, None, :])
        x = x + self.dropout(self.out_projection(mixed.transpose(1, 2).reshape(n, tokens, width)))
        added: Tensor = self.dropout(self.perceptron(self.before_perceptron(x)))
        return x + added


class _GatedPool(nn.Module):
    """Gated attention: the weighted mean of tokens, and the weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Pool (n, T, width) to (n, width); weights are (n, T), all 0 where nothing is known."""
        score = self.score(torch.tanh(self.content(x)) * torch.sigmoid(self.gate(x)))[..., 0]
        score = score.masked_fill(~known, -1e9)
        weights = torch.softmax(score, dim=1) * known
        return torch.einsum("nt,ntw->nw", weights, x), weights


class _DatedModality(nn.Module):
    """Tokens of one modality with their times, and how they are pooled."""

    def __init__(self, layout: DatedLayout, width: int) -> None:
        super().__init__()
        kinds = len(layout.kinds)
        # A projection of each kind: a rise of bilirubin means something else than one of albumin.
        self.projection = nn.Parameter(torch.randn(kinds, layout.width, width) / math.sqrt(layout.width))
        self.kind = nn.Parameter(0.3 * torch.randn(kinds, width))
        self.pool = _GatedPool(width)

    def forward(self, batch: DatedBatch, times: Tensor) -> Tensor:
        """Map vectors (n, K, layout width) to tokens (n, K, width), with their embedded times added."""
        projected = torch.einsum("nkf,nkfw->nkw", batch.features, self.projection[batch.kind])
        tokens: Tensor = (projected + self.kind[batch.kind] + times) * batch.known[..., None]
        return tokens

    def pooled(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Pool tokens (n, K, width) to (n, width)."""
        found: Tensor = self.pool(tokens, known)[0]
        return found


class SurvivalNetwork(nn.Module):
    """Tokens of patients to effects on log hazards."""

    def __init__(self, layout: Layout, size: NetworkSize, endpoints: int) -> None:
        super().__init__()
        self.layout = layout
        self.names = modalities(layout)
        self.endpoints = endpoints
        variables, terms, width = len(layout.columns), max(layout.columns, default=1), size.width
        self.embedding = nn.Parameter(torch.randn(variables, terms, width) / math.sqrt(2 * terms))
        self.variable = nn.Parameter(0.3 * torch.randn(variables, width))
        self.clinical_blocks = nn.ModuleList(_Block(size) for _ in range(size.clinical_layers))
        self.variable_pool = _GatedPool(width)
        self.text = nn.Linear(max(layout.text_width, 1), width)
        self.image = nn.Sequential(nn.LayerNorm(layout.image_width), nn.Linear(layout.image_width, width))
        self.kind = nn.Embedding(max(len(layout.image_kinds), 1), width)
        self.time = nn.Linear(2 * _TIME_WAVES + 1, width)
        self.regimen = nn.Embedding(len(layout.regimens) + 1, width)
        self.modality = nn.Parameter(0.3 * torch.randn(4, width))
        self.series_blocks = nn.ModuleList(_Block(size) for _ in range(size.series_layers))
        self.image_pool = _GatedPool(width)
        self.gates = nn.ModuleList(nn.Linear(2 * width, 1) for _ in self.names)
        self.dropout = nn.Dropout(size.dropout)
        self.before_head = nn.LayerNorm(width)
        self.head = nn.Linear(width, endpoints * SHAPES)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.beside = nn.ModuleDict({group.name: _DatedModality(group, width) for group in layout.beside})

    def forward(self, batch: TokenBatch) -> Effects:
        """Return the effects of patients."""
        clinical, variable_attention = self._clinical(batch)
        tokens, known = self._series(batch, clinical)
        for block in self.series_blocks:
            tokens = block(tokens, known)
        vectors, present, image_attention = self._modalities(batch, tokens, known)
        fused, gates = self._fused(vectors, present)
        effects = self.head(self.dropout(self.before_head(fused)))
        return Effects(effects.view(-1, self.endpoints, SHAPES), variable_attention, image_attention, gates)

    def _clinical(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        x = torch.einsum("nvc,vcw->nvw", batch.clinical, self.embedding) + self.variable
        known = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        for block in self.clinical_blocks:
            x = block(x, known)
        pooled, weights = self.variable_pool(x, known)
        return pooled, weights

    def _series(self, batch: TokenBatch, clinical: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens in the order clinical, text, regimen, images, others; and which of them are known."""
        text = self.text(batch.text) if self.layout.text_width else torch.zeros_like(clinical)
        images = self.image(batch.images) + self.kind(batch.kind) + self.time(_time_code(batch.months))
        single = torch.stack((clinical, text, self.regimen(batch.regimen + 1)), dim=1)
        n = len(clinical)
        always = torch.ones((n, 1), dtype=torch.bool, device=clinical.device)
        known = torch.cat(
            (always, batch.text_known[:, None], (batch.regimen >= 0)[:, None], batch.image_known), dim=1
        )
        tokens = torch.cat((single + self.modality[:3], images + self.modality[3]), dim=1)
        tokens = tokens * known[..., None]
        for name, module in self.beside.items():
            part = batch.beside[name]
            tokens = torch.cat((tokens, module(part, self.time(_time_code(part.months)))), dim=1)
            known = torch.cat((known, part.known), dim=1)
        return tokens, known

    def _modalities(
        self, batch: TokenBatch, tokens: Tensor, known: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        end = 3 + batch.image_known.shape[1]
        image, attention = self.image_pool(tokens[:, 3:end], known[:, 3:end])
        vectors = {"clinical": tokens[:, 0], "text": tokens[:, 1], "regimen": tokens[:, 2], "images": image}
        present = {
            "clinical": known[:, 0],
            "text": known[:, 1],
            "regimen": known[:, 2],
            "images": known[:, 3:end].any(dim=1),
        }
        for name, module in self.beside.items():
            first, end = end, end + batch.beside[name].known.shape[1]
            vectors[name] = cast("_DatedModality", module).pooled(tokens[:, first:end], known[:, first:end])
            present[name] = known[:, first:end].any(dim=1)
        return vectors, present, attention

    def _fused(self, vectors: dict[str, Tensor], present: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        beside = vectors["clinical"]
        opened = [
            torch.sigmoid(gate(torch.cat((vectors[name], beside), dim=1)))[:, 0] * present[name]
            for name, gate in zip(self.names, self.gates, strict=True)
        ]
        gates = torch.stack(opened, dim=1)
        stacked = torch.stack([vectors[name] for name in self.names], dim=1)
        return torch.einsum("nm,nmw->nw", gates, stacked), gates
