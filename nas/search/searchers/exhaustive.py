"""Exhaustive enumeration: the proof of an optimum where a space is small enough to score whole."""

from __future__ import annotations

import numpy as np

from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import SearchSpace


class Exhaustive(Searcher):
    """Proposes every architecture within the limits once.

    The seed draws the order, so that a search that ends early has seen a fair sample.

    Raises:
        NasError: the pool is a sample of a space too large to enumerate.
    """

    def __init__(
        self, space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
    ) -> None:
        super().__init__(space, goals, pool, settings)
        if not pool.complete:
            raise NasError(
                "algorithm exhaustive needs a space that can be enumerated "
                "(max_enumerated); choose guided"
            )
        self._order = np.random.default_rng(settings.seed).permutation(self.rows)

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        return self.pool.first(self._order, count, self.knows)
