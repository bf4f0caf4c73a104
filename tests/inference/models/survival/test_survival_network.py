from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.models.survival.network import (
    NetworkSize,
    SurvivalNetwork,
    TokenBatch,
    as_batch,
    time_shapes,
)
from inference.models.survival.tokens import (
    ANGIOGRAPHY,
    LABORATORY,
    DatedLayout,
    DatedTokens,
    Layout,
    Tokens,
)

LAYOUT = Layout(
    columns=(2, 1, 3),
    text_width=4,
    image_kinds=("baseline", "virtual"),
    image_width=8,
    regimens=("tace",),
    beside=(DatedLayout(LABORATORY, ("afp", "albumin"), 1), DatedLayout(ANGIOGRAPHY, (ANGIOGRAPHY,), 5)),
)


def _tokens(patients: int = 6) -> Tokens:
    rng = np.random.default_rng(0)
    known = np.ones((patients, 3), dtype=np.bool_)
    known[0] = False
    text = rng.normal(size=(patients, 4)).astype(np.float32)
    text[0] = np.nan
    return Tokens(
        clinical=rng.normal(size=(patients, 3, 3)).astype(np.float32),
        text=text,
        images=DatedTokens(
            rng.normal(size=(patients, 3, 8)).astype(np.float32),
            np.tile(np.array([0, 1, 1], dtype=np.intp), (patients, 1)),
            np.tile([0.0, 3.0, 6.0], (patients, 1)),
            known,
        ),
        regimen=np.array([-1] + [0] * (patients - 1), dtype=np.intp),
        beside={
            LABORATORY: DatedTokens(
                rng.normal(size=(patients, 4, 1)).astype(np.float32),
                np.tile(np.array([0, 0, 1, 1], dtype=np.intp), (patients, 1)),
                np.tile([-2.0, -1.0, -2.0, 0.0], (patients, 1)),
                np.repeat(known[:, :1], 4, axis=1),
            ),
            ANGIOGRAPHY: DatedTokens(
                rng.normal(size=(patients, 2, 5)).astype(np.float32),
                np.zeros((patients, 2), dtype=np.intp),
                np.zeros((patients, 2)),
                np.repeat(known[:, :1], 2, axis=1),
            ),
        },
    )


def _with(tokens: Tokens, name: str, **changed: np.ndarray) -> Tokens:
    return replace(tokens, beside={**tokens.beside, name: replace(tokens.beside[name], **changed)})


@pytest.fixture
def network() -> SurvivalNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = SurvivalNetwork(LAYOUT, NetworkSize(width=16, heads=2), 2).eval()
        torch.nn.init.normal_(made.head.weight)
    return made


def _effects(network: SurvivalNetwork, batch: TokenBatch) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(network(batch).effects.numpy())


def test_an_untrained_network_changes_nothing() -> None:
    fresh = SurvivalNetwork(LAYOUT, NetworkSize(width=16, heads=2), 2).eval()

    effects = _effects(fresh, as_batch(_tokens()))

    assert effects.shape == (6, 2, 3)
    assert not effects.any()


def test_what_is_missing_cannot_matter(network: SurvivalNetwork) -> None:
    tokens = _tokens()
    before = _effects(network, as_batch(tokens))
    features = tokens.images.features.copy()
    features[0] = 1e3
    months = tokens.images.months.copy()
    months[0] = 9.0

    after = _effects(
        network,
        as_batch(replace(tokens, images=replace(tokens.images, features=features, months=months))),
    )

    np.testing.assert_allclose(after, before, atol=1e-5)
    for name in (LABORATORY, ANGIOGRAPHY):
        values, times = (getattr(tokens.beside[name], part).copy() for part in ("features", "months"))
        values[0], times[0] = 1e3, -9.0
        filled = _effects(network, as_batch(_with(tokens, name, features=values, months=times)))
        np.testing.assert_allclose(filled, before, atol=1e-5)


def test_the_order_of_dated_tokens_cannot_matter(network: SurvivalNetwork) -> None:
    tokens = _tokens()
    before = _effects(network, as_batch(tokens))
    turned = {
        name: DatedTokens(*(getattr(part, field)[:, ::-1].copy() for field in DatedTokens.__slots__))
        for name, part in tokens.beside.items()
    }
    after = _effects(network, as_batch(replace(tokens, beside=turned)))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_what_is_known_matters(network: SurvivalNetwork) -> None:
    tokens = _tokens()
    before = _effects(network, as_batch(tokens))

    for changed in (
        replace(tokens, clinical=tokens.clinical + 1.0),
        replace(tokens, text=tokens.text[::-1].copy()),
        replace(tokens, images=replace(tokens.images, months=tokens.images.months + 12.0)),
        replace(tokens, images=replace(tokens.images, kind=1 - tokens.images.kind)),
        replace(tokens, regimen=np.full(6, -1, dtype=np.intp)),
        _with(tokens, LABORATORY, features=tokens.beside[LABORATORY].features + 2.0),
        _with(tokens, LABORATORY, kind=1 - tokens.beside[LABORATORY].kind),
        _with(tokens, LABORATORY, months=tokens.beside[LABORATORY].months - 6.0),
        _with(tokens, ANGIOGRAPHY, features=tokens.beside[ANGIOGRAPHY].features + 2.0),
    ):
        assert np.abs(_effects(network, as_batch(changed)) - before)[3].max() > 1e-4


def test_attention_adds_up_and_gates_of_missing_modalities_are_closed(network: SurvivalNetwork) -> None:
    with torch.no_grad():
        found = network(as_batch(_tokens()))

    np.testing.assert_allclose(found.variable_attention.sum(dim=1).numpy(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(found.image_attention.sum(dim=1).numpy(), [0, 1, 1, 1, 1, 1], atol=1e-5)
    gates = dict(zip(network.names, found.gates.numpy().T, strict=True))
    assert list(gates) == ["clinical", "text", "images", "regimen", LABORATORY, ANGIOGRAPHY]
    assert all(gates[name][0] == 0 for name in gates if name != "clinical")
    assert (found.gates.numpy()[1:] > 0).all()


def test_effects_over_time_are_orthogonal_shapes() -> None:
    shapes = time_shapes(400)

    np.testing.assert_allclose(shapes.T @ shapes / 400, np.diag([1.0, 1 / 3, 1 / 5]), atol=1e-4)
