"""Exhaustive enumeration: the proof of an optimum where a space is small enough to score whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.pool import Pool
from nas.search.searcher import History
from supernet.architecture import Architecture
from supernet.errors import NasError


class Exhaustive:
    """Proposes every architecture within the limits once, in an order drawn by the seed.

    Args:
        pool: the whole space.
        rows: those of it within the limits.
        seed: of the order, so that a search that ends early has seen a fair sample.

    Raises:
        NasError: the pool is a sample of a space too large to enumerate.
    """

    def __init__(self, pool: Pool, rows: NDArray[np.intp], seed: int) -> None:
        if not pool.complete:
            raise NasError(
                "algorithm exhaustive needs a space that can be enumerated "
                "(max_enumerated); choose guided"
            )
        self._pool = pool
        self._order = np.random.default_rng(seed).permutation(rows)
        self._history = History(seed)

    def ask(self, count: int) -> list[Architecture]:
        chosen = self._pool.first(self._order, count, self._history.__contains__)
        self._history.expect(chosen)
        return chosen

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        self._history.tell(architectures, scores)
