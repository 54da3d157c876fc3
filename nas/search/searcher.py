"""The interface that every searcher has: ask for architectures, tell their scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from supernet.architecture import Architecture
from supernet.errors import NasError


class Searcher(Protocol):
    """Proposes architectures to score.

    What a searcher proposes is a function of its seed, of the scores told so far in their order,
    and of what is asked but not yet told. So telling the stored scores again restores its state,
    and several workers may evaluate at once.
    """

    def ask(self, count: int) -> list[Architecture]:
        """Up to ``count`` architectures, none asked or told before; fewer when none are left."""

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        """Scores, (N,), higher is better; also of architectures that were not asked for."""


class History:
    """What a searcher was told, what it is waiting for, and the chance that follows from both."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.pending: set[Architecture] = set()
        self.scores: dict[Architecture, float] = {}

    def __contains__(self, architecture: Architecture) -> bool:
        return architecture in self.scores or architecture in self.pending

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self._seed, len(self.scores), len(self.pending)])

    def expect(self, architectures: Iterable[Architecture]) -> None:
        self.pending.update(architectures)

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        """Take in scores, (N,).

        Raises:
            NasError: not as many scores as architectures, or one that is not finite.
        """
        values = np.asarray(scores, dtype=float)
        if values.shape != (len(architectures),):
            raise NasError(f"{len(architectures)} architectures need as many scores: {values!r}")
        if not np.isfinite(values).all():
            raise NasError(f"scores must be finite numbers, not {values[~np.isfinite(values)]}")
        self.pending.difference_update(architectures)
        self.scores.update(zip(architectures, values.tolist(), strict=True))
