import pytest

from inference.models.protocols import within


def test_a_step_fills_its_part_of_the_bar():
    seen = []
    step = within(lambda text, share: seen.append((text, share)), 0.2, 0.5)
    for share in (0.0, 0.5, 1.0):
        step("training", share)
    assert [text for text, _ in seen] == ["training"] * 3
    assert [share for _, share in seen] == pytest.approx([0.2, 0.35, 0.5])
