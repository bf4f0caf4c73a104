"""The flow ATOM with the medians that were published."""

from __future__ import annotations

import pytest

from inference.models.second_opinions.atom import PUBLISHED_MEDIANS, Stage, Therapy, advise

TACE, HAIC, TC, HC = Therapy


@pytest.mark.parametrize(
    ("scores", "stage", "therapy"),
    [
        # One of the two alone reaches its median.
        ((0.4035, 0.33, 0.99, 0.99), Stage.ALONE, TACE),
        ((0.40, 0.34, 0.99, 0.99), Stage.ALONE, HAIC),
        # Both do: the larger margin decides, not the larger score.
        ((0.50, 0.45, 0.0, 0.0), Stage.ALONE, HAIC),
        ((0.55, 0.36, 0.0, 0.0), Stage.ALONE, TACE),
        # None alone: with systemic therapy.
        ((0.40, 0.33, 0.62, 0.60), Stage.COMBINED, TC),
        ((0.40, 0.33, 0.60, 0.6458), Stage.COMBINED, HC),
        ((0.40, 0.33, 0.70, 0.72), Stage.COMBINED, TC),
        # Nothing reaches its median.
        ((0.40, 0.33, 0.61, 0.64), Stage.AGAINST, None),
    ],
)
def test_end_of_the_flow(
    scores: tuple[float, float, float, float], stage: Stage, therapy: Therapy | None
) -> None:
    found = advise(dict(zip((TACE, HAIC, TC, HC), scores, strict=True)), PUBLISHED_MEDIANS)
    assert (found.stage, found.therapy) == (stage, therapy)
    assert (found.margin >= 0) == (therapy is not None)


def test_margin_of_advice_against_is_that_of_the_nearest() -> None:
    found = advise({TACE: 0.30, HAIC: 0.33, TC: 0.1, HC: 0.1}, PUBLISHED_MEDIANS)
    assert found.margin == pytest.approx(0.33 - 0.3368)


def test_flow_needs_all_four_scores() -> None:
    with pytest.raises(KeyError):
        advise({TACE: 0.9, HAIC: 0.1}, PUBLISHED_MEDIANS)
