"""HAT's evolutionary search, as a baseline (Wang et al., ACL 2020): generations of the fittest.

Of each generation the fittest are parents; the next is those, their mutants, in which every
dimension is drawn anew with a probability of 0.3, and crossovers, all within the latency. HAT takes
a population of 125, 25 parents, 50 mutants and 50 crossovers, and so does this: a search of fewer
than 125 evaluations sees its first, random generation alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.searcher import History
from supernet.architecture import Architecture
from supernet.space import SearchSpace

MUTATION = 0.3
_ATTEMPTS = 40
"""How often a child that no goal allows is replaced before a random member takes its place."""


class HatEvolution:
    """Generations of parents, mutants and crossovers.

    Args:
        space, goals, pool, rows, seed: as for :class:`nas.search.evolution.RegularizedEvolution`.
        population: of the first generation; a fifth are parents, two fifths each are mutants and
            crossovers.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        pool: Pool,
        rows: NDArray[np.intp],
        seed: int,
        population: int = 125,
    ) -> None:
        self._space, self._goals = space, goals
        self._pool, self._rows, self._population = pool, rows, population
        self._history = History(seed)

    def ask(self, count: int) -> list[Architecture]:
        history, rng = self._history, self._history.rng()
        number_of_parents = max(1, self._population // 5)
        known = len(history.scores)
        chosen: list[Architecture] = []
        if known >= self._population:
            # A generation's parents are the fittest of what was told before it began.
            bred = 4 * number_of_parents
            told = self._population + (known - self._population) // bred * bred
            before = list(history.scores)[:told]
            within = np.logical_or.reduce(self._goals.usage(before) <= 1)
            fit = [a for a, held in zip(before, within, strict=True) if held] or before
            parents = sorted(fit, key=lambda a: -history.scores[a])[:number_of_parents]
            for _ in range(_ATTEMPTS):
                if len(chosen) == count:
                    break
                born = [self._child(parents, rng) for _ in range(count - len(chosen))]
                fresh = [a for a in dict.fromkeys(born) if a not in history and a not in chosen]
                if fresh:
                    allowed = self._goals.allow(self._goals.usage(fresh))
                    chosen += [a for a, held in zip(fresh, allowed, strict=True) if held]
        return self._pool.fill(chosen, self._rows, count, rng, history)

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        self._history.tell(architectures, scores)

    def _child(self, parents: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        first, second = (parents[int(row)] for row in rng.integers(len(parents), size=2))
        if rng.random() < 0.5:
            return self._space.cross_over(first, second, rng)
        return self._space.cross_over(first, self._space.sample(rng), rng, share=MUTATION)
