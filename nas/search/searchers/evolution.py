"""Regularized evolution: the population ages, so that a lucky score does not live for ever.

Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search",
AAAI 2019: the population is the last P architectures scored; the best of S drawn from it is the
parent of the next. Constraints enter by Deb's rules ("An efficient constraint handling method for
genetic algorithms", 2000): within the limits beats beyond them, then score decides, and beyond
them the smaller excess.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from nas.search.breeding import Breeding
from nas.search.constraints import FloatArray
from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.space import SearchSpace


class RegularizedEvolution(Searcher):
    """Ageing evolution within the limits of a search's goals.

    Each child is bred for one of the goals, drawn at random: its limits decide the tournaments.
    Of the settings it reads population, tournament, mutation and crossover.
    """

    def __init__(
        self, space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
    ) -> None:
        super().__init__(space, goals, pool, settings)
        self._breeding = Breeding(space, self.goals, settings.mutation, settings.crossover)
        self._population: deque[Architecture] = deque(maxlen=settings.population)
        self._excess: dict[Architecture, FloatArray] = {}

    @property
    def least_usage(self) -> float:
        return self.settings.near

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        chosen: list[Architecture] = []
        if len(self._population) == self._population.maxlen:

            def parent() -> Architecture:
                return self._winner(rng)

            chosen = self._breeding.children(parent, count, rng, self.knows)
        return self.filled(chosen, count, rng)

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        super().tell(architectures, scores)
        if architectures:
            excess = np.maximum(self.goals.usage(architectures) - 1, 0)  # (G, N)
            self._excess.update(zip(architectures, excess.T, strict=True))
            self._population.extend(architectures)

    def _winner(self, rng: np.random.Generator) -> Architecture:
        """The fittest of a tournament for one of the goals."""
        goal = int(rng.integers(len(self.goals)))
        drawn = rng.integers(len(self._population), size=self.settings.tournament)
        return max(
            (self._population[int(index)] for index in drawn),
            key=lambda a: (-float(self._excess[a][goal]), self.scores[a]),
        )
