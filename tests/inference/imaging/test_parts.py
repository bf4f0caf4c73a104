import numpy as np

from inference.imaging.parts import largest_part


def test_the_largest_part_is_kept_and_of_equal_ones_the_first():
    mask = np.zeros((3, 4, 8), bool)
    mask[1, 1, 1:3] = mask[1, 1, 5:7] = True
    assert np.argwhere(largest_part(mask)).tolist() == [[1, 1, 1], [1, 1, 2]]
    mask[1, 2, 6] = True
    assert np.argwhere(largest_part(mask)).tolist() == [[1, 1, 5], [1, 1, 6], [1, 2, 6]]


def test_parts_that_touch_at_a_corner_are_two():
    assert largest_part(np.array([[True, False, False], [False, True, True]])).sum() == 2


def test_nothing_stays_nothing():
    assert not largest_part(np.zeros((4, 4), bool)).any()
