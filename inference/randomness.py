"""Random generators derived by name, so that results do not depend on the order of calls."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class RandomStreams:
    """A seed from which independent generators are derived by name."""

    seed: int

    def derive(self, *names: str | int | float) -> np.random.Generator:
        """Return the generator of one name path, always the same for the same seed and names."""
        text = "\x1f".join([str(self.seed), *(str(n) for n in names)])
        digest = hashlib.sha256(text.encode()).digest()
        return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32).tolist())
