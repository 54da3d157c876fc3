"""Regularized evolution: the population ages, so that a lucky score does not live for ever.

Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search",
AAAI 2019: the population is the last P architectures scored; the best of S drawn from it is the
parent of the next. Constraints enter by Deb's rules ("An efficient constraint handling method for
genetic algorithms", 2000): within the limits beats beyond them, then score decides, and beyond
them the smaller excess. A latency is predicted before anything is scored, so a child outside the
search region is never proposed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.pool import Pool, Region
from nas.search.searcher import History
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.space import SearchSpace

_ROUNDS = 8
"""How often too few children are followed by more, before random members fill the rest."""


class RegularizedEvolution:
    """Ageing evolution within a search region.

    Args:
        space: says what a mutation and a crossover are.
        region: where children may lie.
        pool, rows: what random members are drawn from; ``rows`` lie in the region.
        settings: population, tournament, mutation, crossover and seed.
    """

    def __init__(
        self,
        space: SearchSpace,
        region: Region,
        pool: Pool,
        rows: NDArray[np.intp],
        settings: SearchSettings,
    ) -> None:
        self._space, self._region, self._settings = space, region, settings
        self._pool, self._rows = pool, rows
        self._population: deque[Architecture] = deque(maxlen=settings.population)
        self._fitness: dict[Architecture, tuple[float, float]] = {}
        self._history = History(settings.seed)

    def ask(self, count: int) -> list[Architecture]:
        history, rng = self._history, self._history.rng()
        chosen: list[Architecture] = []
        if len(self._population) == self._population.maxlen:
            chosen = self.children(count, rng, history.__contains__)
        others = set(chosen)
        chosen += self._pool.draw(
            self._rows, count - len(chosen), rng, lambda a: a in history or a in others
        )
        history.expect(chosen)
        return chosen

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        self._history.tell(architectures, scores)
        if architectures:
            values = np.asarray(scores, dtype=float)
            excess = np.maximum(self._region.usage(architectures) - 1, 0)
            for architecture, score, beyond in zip(architectures, values, excess, strict=True):
                self._fitness[architecture] = (-float(beyond), float(score))
                self._population.append(architecture)

    def children(
        self, count: int, rng: np.random.Generator, exclude: Callable[[Architecture], bool]
    ) -> list[Architecture]:
        """Up to ``count`` children of the population in the region, without excluded ones."""
        members = list(self._population)

        def parent() -> Architecture:
            drawn = rng.integers(len(members), size=self._settings.tournament)
            entrants = [members[int(index)] for index in drawn]
            return max(entrants, key=lambda entrant: self._fitness[entrant])

        found: dict[Architecture, None] = {}
        for _ in range(_ROUNDS if members else 0):
            born = (self._child(parent, rng) for _ in range(2 * (count - len(found))))
            found.update(dict.fromkeys(self._admitted(born, exclude)))
            if len(found) >= count:
                break
        return list(found)[:count]

    def offspring(
        self,
        parents: Sequence[Architecture],
        count: int,
        rng: np.random.Generator,
        exclude: Callable[[Architecture], bool],
    ) -> list[Architecture]:
        """Children of given parents in the region, of ``count`` attempts, without excluded ones."""
        if not parents:
            return []

        def parent() -> Architecture:
            return parents[int(rng.integers(len(parents)))]

        return self._admitted((self._child(parent, rng) for _ in range(count)), exclude)

    def _child(self, parent: Callable[[], Architecture], rng: np.random.Generator) -> Architecture:
        child = parent()
        if rng.random() < self._settings.crossover:
            child = self._space.cross_over(child, parent(), rng)
        return self._space.mutate(child, rng, self._settings.mutation)

    def _admitted(
        self, born: Iterable[Architecture], exclude: Callable[[Architecture], bool]
    ) -> list[Architecture]:
        fresh = [child for child in dict.fromkeys(born) if not exclude(child)]
        if not fresh:
            return []
        return [c for c, held in zip(fresh, self._region.holds(fresh), strict=True) if held]
