"""HAT's evolutionary search, as a baseline (Wang et al., ACL 2020): generations of the fittest.

Of each generation the fittest are parents; the next is those, their mutants, in which every
dimension is drawn anew with a probability of 0.3, and crossovers, all within the latency. HAT takes
a population of 125, 25 parents, 50 mutants and 50 crossovers, and so does this: a search of fewer
than 125 evaluations sees its first, random generation alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.search.searcher import Searcher
from supernet.architecture import Architecture

POPULATION = 125
"""Of the first generation."""
PARENTS = 25
"""Of each; two times as many mutants and as many crossovers follow."""
MUTATION = 0.3
_ATTEMPTS = 40
"""How often a child that no goal allows is replaced before a random member takes its place."""


class HatEvolution(Searcher):
    """Generations of parents, mutants and crossovers."""

    @property
    def least_usage(self) -> float:
        return self.settings.near

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        chosen: list[Architecture] = []
        if len(self.scores) >= POPULATION:
            parents = self._parents()
            for _ in range(_ATTEMPTS):
                if len(chosen) == count:
                    break
                born = [self._child(parents, rng) for _ in range(count - len(chosen))]
                fresh = [a for a in dict.fromkeys(born) if not self.knows(a) and a not in chosen]
                if fresh:
                    allowed = self.goals.allow(self.goals.usage(fresh))
                    chosen += [a for a, held in zip(fresh, allowed, strict=True) if held]
        return self.filled(chosen, count, rng)

    def _parents(self) -> list[Architecture]:
        """The fittest of what was told before this generation began."""
        bred = 4 * PARENTS
        told = POPULATION + (len(self.scores) - POPULATION) // bred * bred
        before = list(self.scores)[:told]
        within = np.logical_or.reduce(self.goals.usage(before) <= 1)
        fit = [a for a, held in zip(before, within, strict=True) if held] or before
        return sorted(fit, key=lambda a: -self.scores[a])[:PARENTS]

    def _child(self, parents: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        first, second = (parents[int(row)] for row in rng.integers(len(parents), size=2))
        if rng.random() < 0.5:
            return self.space.cross_over(first, second, rng)
        return self.space.cross_over(first, self.space.sample(rng), rng, share=MUTATION)
