"""Children of architectures: crossover and mutation, within what the goals allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from nas.search.goals import Goals
from supernet.architecture import Architecture
from supernet.space import SearchSpace

_ROUNDS = 8
"""How often too few children are followed by more."""


class Breeding:
    """How evolutionary searchers get children from parents.

    A latency is predicted before anything is scored, so a child that no goal allows is never born.

    Args:
        space: says what a mutation and a crossover are.
        goals: what children must keep to.
        mutation: probability that a dimension moves one step.
        crossover: probability that a child has two parents.
    """

    def __init__(self, space: SearchSpace, goals: Goals, mutation: float, crossover: float) -> None:
        self._space, self._goals = space, goals
        self._mutation, self._crossover = mutation, crossover

    def children(
        self,
        parent: Callable[[], Architecture],
        count: int,
        rng: np.random.Generator,
        exclude: Callable[[Architecture], bool],
    ) -> list[Architecture]:
        """Up to ``count`` distinct children, without excluded ones.

        Args:
            parent: draws one.
        """
        found: dict[Architecture, None] = {}
        for _ in range(_ROUNDS):
            born = (self._child(parent, rng) for _ in range(2 * (count - len(found))))
            found.update(dict.fromkeys(self.admitted(born, exclude)))
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
        """Children of equally likely parents, of ``count`` attempts, without excluded ones."""
        if not parents:
            return []

        def parent() -> Architecture:
            return parents[int(rng.integers(len(parents)))]

        return self.admitted((self._child(parent, rng) for _ in range(count)), exclude)

    def admitted(
        self, born: Iterable[Architecture], exclude: Callable[[Architecture], bool]
    ) -> list[Architecture]:
        """Those that a goal allows, each once, without excluded ones."""
        fresh = [child for child in dict.fromkeys(born) if not exclude(child)]
        if not fresh:
            return []
        allowed = self._goals.allow(self._goals.usage(fresh))
        return [child for child, held in zip(fresh, allowed, strict=True) if held]

    def _child(self, parent: Callable[[], Architecture], rng: np.random.Generator) -> Architecture:
        child = parent()
        if rng.random() < self._crossover:
            child = self._space.cross_over(child, parent(), rng)
        return self._space.mutate(child, rng, self._mutation)
