"""The network that draws a follow-up: tissues first, and attenuation from the tissues.

It sees the baseline, what was requested of each lesion, regimen and time, and (in flow matching) a
noisy change. It answers with tissue fractions and with how each tissue differs from liver in each
phase; the change of the image is computed from these, so that maps and images cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from inference.models.flow.haar import doubled, haar, inverse_haar
from inference.models.flow.layers import Block, Convolution, Entry, Exit, activated, normalised
from inference.settings import Frozen

TISSUES = 3
"""Viable tumour, dead tumour, lipiodol; normal liver is the rest."""
FIELDS = 6
"""Full-resolution inputs: two phases, liver, three fractions."""
REQUESTS = 4
"""Inputs at half resolution: what is requested of the nearest lesion."""
STATE = 5
"""Fields that flow matching draws: change of three fractions and of two phases."""
LEVELS = 8
"""Outputs at half resolution: three tissues and a change of viable tumour, in two phases."""
MULTIPLE = 16
"""Extents of the full-resolution input are multiples of this."""

_PRIOR = 0.02
_FULL_PRECISION_FROM = 2
_BANDS = 8
"""Haar bands of a field; the first is its mean."""
_SIGNAL = 2.0
"""About the deviation of a Haar mean where tissue changes, in units of the noise."""
_AVERAGED = (1.0, 27.0, 200.0)
"""How many voxels' noise is averaged in each estimate of `evidence`."""
_TO_MEAN = 0.35
"""Brings Haar means near the size of what they are means of."""
REQUEST_FLOOR = 0.03
"""Added to a ratio of volumes before its logarithm is taken."""
_SEEN = FIELDS + REQUESTS
_EVIDENCE = _BANDS * STATE + (len(_AVERAGED) - 1) * STATE


class NetworkSettings(Frozen):
    """Size of the network."""

    widths: tuple[int, ...] = (32, 64, 96, 128)
    embedding: int = 128
    conditions: int = Field(gt=0, description="length of the vector of conditions")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the network answers, at full resolution.

    Attributes
    ----------
    logits : Tensor, (batch, 4, z, y, x)
        Liver, viable, dead, lipiodol; their softmax are the fractions.
    levels : Tensor, (batch, 8, z, y, x)
        Difference from liver of viable tumour, dead tumour and lipiodol (two phases each), and the
        change of viable tumour under treatment; in units of the scale of the modality.
    """

    logits: Tensor
    levels: Tensor

    @property
    def fractions(self) -> Tensor:
        """Viable, dead and lipiodol, (batch, 3, z, y, x)."""
        return torch.softmax(self.logits, dim=1)[:, 1:]


def image_change(fractions: Tensor, baseline: Tensor, levels: Tensor) -> Tensor:
    """Return the change of the two phases, (batch, 2, z, y, x), that a change of tissue makes.

    Where no tissue changes and viable tumour keeps its enhancement, it is zero.

    Parameters
    ----------
    fractions, baseline : Tensor, (batch, 3, z, y, x)
        After and before.
    levels : Tensor, (batch, 8, z, y, x)
        See `Drawn`.
    """
    difference = fractions - baseline
    viable = fractions[:, :1]
    change = viable * levels[:, 6:8]
    for k in range(TISSUES):
        change = change + difference[:, k : k + 1] * levels[:, 2 * k : 2 * k + 2]
    return change


@dataclass(frozen=True, slots=True)
class Context:
    """What is the same for all noise levels.

    Attributes
    ----------
    features : Tensor, (batch, width, z/2, y/2, x/2)
    seen : Tensor, (batch, fields + requests, z/2, y/2, x/2)
        Means of the fields, and the requests as they are.
    prior : Tensor, (batch, 4, z, y, x)
        Logits that answers depart from.
    """

    features: Tensor
    seen: Tensor
    prior: Tensor


def prior_logits(fields: Tensor, requests: Tensor) -> Tensor:
    """Return the logits of tumour that keeps its place and has everywhere the make-up that was requested.

    Of a tumour that shrinks, each voxel keeps the share that the whole keeps. Nothing requested leaves
    the tumour as it is, all of it viable.

    Parameters
    ----------
    fields, requests : Tensor
        See `ChangeNetwork.encode`.
    """
    baseline = fields[:, 3:6].float()
    asked = requests.float()
    for axis in (2, 3, 4):
        asked = asked.repeat_interleave(2, dim=axis)
    dead, oil = asked[:, 1:2].clamp_min(0.0), asked[:, 2:3].clamp_min(0.0)
    whole = torch.maximum((asked[:, 3:4].exp() - REQUEST_FLOOR).clamp_min(1e-3), dead + oil)
    shares = torch.cat([whole - dead - oil, dead, oil], dim=1) / whole.clamp_min(1.0)
    tumour = baseline.sum(dim=1, keepdim=True) * shares
    everything = torch.cat([1.0 - tumour.sum(dim=1, keepdim=True), tumour], dim=1)
    return torch.log(everything.clamp_min(0.0) + _PRIOR)


def evidence(state: Tensor, sigma: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Return what a noisy state says of the clean one: voxel by voxel, and averaged over surroundings.

    A weight times its values is the expected clean value given the noisy one, were clean values normally
    distributed; a constant change of a whole lesion stands out of the noise long before its voxels do.

    Parameters
    ----------
    state : Tensor, (batch, 40, z/2, y/2, x/2)
        (1 - sigma) times the clean state and sigma times standard normal noise.
    sigma : Tensor, (batch,)

    Returns
    -------
    tuple of (weight, values)
        Weights (batch,). Values of all bands, then of the means of the fields averaged over 3 and over
        about 7 voxels a side, (batch, channels, z/2, y/2, x/2), 50 channels together.
    """
    level = sigma.float()
    clean = (1.0 - level) * _SIGNAL**2
    spread = ((1.0 - level) * _SIGNAL) ** 2
    single, near, far = (clean / (spread + level**2 / n) for n in _AVERAGED)
    full = state.float()
    around = _blurred(full[:, ::_BANDS])
    return (single, full), (near, around), (far, _blurred(_blurred(around)))


def _blurred(x: Tensor) -> Tensor:
    """Return the mean of the 27 voxels around each, those outside not counted; one axis after another."""
    for window, rim in (((1, 1, 3), (0, 0, 1)), ((1, 3, 1), (0, 1, 0)), ((3, 1, 1), (1, 0, 0))):
        x = functional.avg_pool3d(x, window, stride=1, padding=rim, count_include_pad=False)
    return x


class ChangeNetwork(nn.Module):
    """A U-Net on the Haar bands, modulated by the conditions.

    What it sees also reaches the answer directly: normalisation inside the network forgets how bright a
    lesion is, and how bright its change.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        widths, e = settings.widths, settings.embedding
        self.embed = nn.Sequential(
            nn.Linear(settings.conditions + 1, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU()
        )
        self.context = Entry(8 * FIELDS + REQUESTS, widths[0])
        self.context_block = Block(widths[0], e, 1)
        self.state = Entry(8 * STATE, widths[0])
        self.encoders = nn.ModuleList([Block(widths[0], e, 1)])
        self.down = nn.ModuleList()
        for narrow, wide in zip(widths[:-1], widths[1:], strict=True):
            self.down.append(Convolution(narrow, wide, 3, stride=2, padding=1))
            self.encoders.append(Block(wide, e, 2))
        self.up = nn.ModuleList()
        self.decoders = nn.ModuleList()
        for narrow, wide in reversed(list(zip(widths[:-1], widths[1:], strict=True))):
            self.up.append(Convolution(wide, narrow, 1))
            self.decoders.append(Block(narrow, e, 2))
        # Without a norm at the end what the blocks add up grows until the activation lets nothing through.
        self.last = nn.Linear(e, 2 * widths[0])
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.head = Exit(widths[0], 8 * (TISSUES + 1) + LEVELS)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        self.direct = nn.Conv3d(_SEEN + _EVIDENCE, 8 * (TISSUES + 1) + LEVELS, 1, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.gain = nn.Linear(e, _SEEN + _EVIDENCE)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def start_at(self, levels: Tensor) -> None:
        """Let an untrained network answer with the same levels, (8,), everywhere."""
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias[-LEVELS:] = levels

    def embedding(self, conditions: Tensor, sigma: Tensor) -> Tensor:
        """Return the embedding of conditions (batch, n) at a noise level (batch,)."""
        embedded: Tensor = self.embed(torch.cat([conditions, sigma[:, None]], dim=1))
        return embedded

    def encode(self, fields: Tensor, requests: Tensor, embedding: Tensor) -> Context:
        """Return what does not depend on the state.

        Parameters
        ----------
        fields : Tensor, (batch, 6, z, y, x)
            Two phases less the liver's level, liver, three fractions; see `conditions`.
        requests : Tensor, (batch, 4, z/2, y/2, x/2)
        """
        bands = haar(fields) * _TO_MEAN
        features = self.context_block(self.context(torch.cat([bands, requests], dim=1)), embedding)
        seen = torch.cat([bands[:, ::_BANDS], requests], dim=1)
        return Context(features, seen, prior_logits(fields, requests))

    def decode(self, context: Context, state: Tensor | None, sigma: Tensor, embedding: Tensor) -> Drawn:
        """Return the follow-up that is expected given the state.

        Parameters
        ----------
        context : as `encode` gives it
        state : Tensor, (batch, 40, z/2, y/2, x/2), or None
            Haar bands of the noisy change; None in one-step regression.
        sigma : Tensor, (batch,)
            Noise level of the state.
        """
        x = context.features
        if state is not None:
            x = x + self.state(state)
        skips: list[Tensor] = []
        for level, encoder in enumerate(self.encoders):
            if level:
                x = self._down(level, x)
            x = self._at(level, encoder, x, embedding)
            skips.append(x)
        skips.pop()
        for place, (up, decoder) in enumerate(zip(self.up, self.decoders, strict=True)):
            level = len(self.up) - 1 - place
            skip = skips.pop()
            x = functional.interpolate(up(x), scale_factor=2.0, mode="nearest").to(skip.dtype) + skip
            x = self._at(level, decoder, x, embedding)
        scale, shift = self.last(embedding).chunk(2, dim=1)
        answer = self.head(activated(normalised(x, scale, shift))).float()
        return self._drawn(self._with_seen(answer, context.seen, state, sigma, embedding), context.prior)

    def _with_seen(
        self, answer: Tensor, seen: Tensor, state: Tensor | None, sigma: Tensor, embedding: Tensor
    ) -> Tensor:
        """Add to the answer, (batch, 40, z/2, y/2, x/2), what is linear in what is seen."""
        with torch.autocast(seen.device.type, enabled=False):
            matrix = self.direct.weight.flatten(1) * (1.0 + self.gain(embedding.float()))[:, None]
            # Gains and the weights of the evidence scale the small matrix, not the large fields.
            parts, fields, start = [matrix[..., :_SEEN]], [seen.float()], _SEEN
            for weight, values in evidence(state, sigma) if state is not None else ():
                stop = start + values.shape[1]
                parts.append(matrix[..., start:stop] * weight[:, None, None])
                fields.append(values)
                start = stop
            rows = torch.cat(fields, dim=1).flatten(2)
            total = torch.baddbmm(answer.flatten(2), torch.cat(parts, dim=2), rows)
            return total.reshape(answer.shape)

    def _down(self, level: int, x: Tensor) -> Tensor:
        if level >= _FULL_PRECISION_FROM:
            with torch.autocast(x.device.type, enabled=False):
                found: Tensor = self.down[level - 1](x.float())
                return found
        found = self.down[level - 1](x)
        return found

    @staticmethod
    def _at(level: int, block: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        # Convolutions in bfloat16 gave gradients that are not finite on small grids.
        if level >= _FULL_PRECISION_FROM:
            with torch.autocast(x.device.type, enabled=False):
                found: Tensor = block(x.float(), embedding.float())
                return found
        found = block(x, embedding)
        return found

    @staticmethod
    def _drawn(answer: Tensor, prior: Tensor) -> Drawn:
        logits = inverse_haar(answer[:, : 8 * (TISSUES + 1)]) + prior
        return Drawn(logits, doubled(answer[:, 8 * (TISSUES + 1) :]))

    def forward(
        self, fields: Tensor, requests: Tensor, conditions: Tensor, state: Tensor | None, sigma: Tensor
    ) -> Drawn:
        """Return the expected follow-up; see `encode` and `decode`."""
        # The request is encoded once for all noise levels.
        context = self.encode(fields, requests, self.embedding(conditions, torch.ones_like(sigma)))
        return self.decode(context, state, sigma, self.embedding(conditions, sigma))


def bfloat16_is_fast() -> bool:
    """Return whether the device computes convolutions in bfloat16 faster than in single precision."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported()) if supported is not None else False
