"""Which lesion of a follow-up is which of the baseline."""

from __future__ import annotations

import numpy as np
import pytest

from inference.errors import TrainingDataError
from inference.training.pairing import pair_lesions, renumbered

SPACING = (2.0, 2.0, 2.0)


def balls(*centres_radii: tuple[tuple[int, int, int], float], numbers=None) -> np.ndarray:
    z, y, x = np.indices((30, 40, 40))
    found = np.zeros((30, 40, 40), dtype=np.uint8)
    for k, ((a, b, c), radius) in enumerate(centres_radii):
        number = k + 1 if numbers is None else numbers[k]
        found[(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= radius**2] = number
    return found


KNOWN = balls(((15, 10, 10), 5), ((15, 28, 28), 4))


def test_order_of_the_follow_up_does_not_matter():
    later = balls(((15, 28, 28), 6), ((15, 10, 10), 3))
    pairing = pair_lesions(KNOWN, later, SPACING)
    assert pairing.numbers == {1: 2, 2: 1}
    assert pairing.new == ()
    assert set(np.unique(renumbered(later, pairing.numbers))) == {0, 1, 2}


def test_new_lesions_are_numbered_above_by_volume():
    later = balls(((15, 10, 10), 4), ((5, 35, 8), 2), ((24, 8, 33), 3))
    pairing = pair_lesions(KNOWN, later, SPACING)
    assert pairing.numbers == {1: 1, 2: 4, 3: 3}
    assert pairing.new == (3, 4)
    assert pair_lesions(KNOWN, later, SPACING, highest=7).new == (8, 9)


def test_parts_of_one_lesion_keep_its_number():
    later = balls(((15, 8, 10), 1.5), ((15, 13, 10), 1.5))
    assert pair_lesions(KNOWN, later, SPACING).numbers == {1: 1, 2: 1}


def test_coalesced_lesions_take_the_number_that_is_covered_most():
    later = balls(((15, 19, 19), 16))
    pairing = pair_lesions(KNOWN, later, SPACING)
    assert pairing.numbers == {1: 1}
    assert pairing.coalesced == (2,)


def test_a_lesion_within_reach_is_the_same_and_one_beyond_is_new():
    near, far = balls(((15, 17, 10), 1)), balls(((15, 21, 10), 1))
    assert pair_lesions(KNOWN, near, SPACING).numbers == {1: 1}
    assert pair_lesions(KNOWN, far, SPACING).numbers == {1: 3}


def test_tracking_identifiers_come_before_places():
    later = balls(((15, 10, 10), 4))
    pairing = pair_lesions(KNOWN, later, SPACING, {1: 2})
    assert pairing.numbers == {1: 2}
    assert pairing.by_identifier == 1


def test_more_lesions_than_numbers_are_refused():
    with pytest.raises(TrainingDataError, match="255"):
        pair_lesions(KNOWN, balls(((5, 35, 8), 2)), SPACING, highest=255)
