"""Random search: the baseline that every other searcher must beat."""

from __future__ import annotations

import numpy as np

from nas.search.searcher import Searcher
from supernet.architecture import Architecture


class RandomSearch(Searcher):
    """Proposes members of the pool at random, each once."""

    @property
    def least_usage(self) -> float:
        return self.settings.near

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        return self.filled([], count, rng)
