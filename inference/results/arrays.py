"""Types of the arrays that results hold."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
Voxels: TypeAlias = npt.NDArray[np.float32]
StoredValues: TypeAlias = npt.NDArray[np.int32]
Labels: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]
