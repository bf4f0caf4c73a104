"""Connected parts of a mask."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from inference.results import Mask


def largest_part(mask: Mask) -> Mask:
    """Return the largest part of a mask, in 2 or 3 dimensions; of equally large ones the first.

    Voxels are connected through faces, pixels through edges. An empty mask stays empty.
    """
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    return np.asarray(parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])))
