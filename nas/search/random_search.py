"""Random search: the baseline that every other searcher must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.pool import Pool
from nas.search.searcher import History
from supernet.architecture import Architecture


class RandomSearch:
    """Proposes rows of a pool at random, each once.

    Args:
        pool: what to choose from.
        rows: the rows of it that may be proposed.
        seed: of every choice.
    """

    def __init__(self, pool: Pool, rows: NDArray[np.intp], seed: int) -> None:
        self._pool, self._rows = pool, rows
        self._history = History(seed)

    def ask(self, count: int) -> list[Architecture]:
        return self._pool.fill([], self._rows, count, self._history.rng(), self._history)

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        self._history.tell(architectures, scores)
