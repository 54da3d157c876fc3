"""NSGA-II: a population spread over the whole front (Deb, Pratap, Agarwal and Meyarivan, 2002).

Each time it is asked, the population is the best of all that was told, by non-dominated rank, then
by crowding distance (the steady state of Durillo et al., 2009): so an answer that comes late counts
as soon as it is there. Whoever exceeds the loosest limits is dominated by all who do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.breeding import Breeding
from nas.search.constraints import FloatArray
from nas.search.front import non_dominated
from nas.search.searcher import Searcher
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch


def ranks(latency_ms: ArrayLike, score: ArrayLike) -> NDArray[np.intp]:
    """The non-dominated rank of each row, (N,): 0 is the front, 1 the front of the rest, ...

    Rows equal in both to one of a front are of the rank after it.

    Example:
        >>> ranks([1.0, 2.0, 3.0, 2.0], [0.5, 0.8, 0.7, 0.6]).tolist()
        [0, 0, 1, 1]
    """
    latency, value = np.asarray(latency_ms, dtype=float), np.asarray(score, dtype=float)
    rank = np.zeros(len(latency), dtype=np.intp)
    left = np.arange(len(latency))
    while len(left):
        front = non_dominated(latency[left], value[left])
        left = np.delete(left, front)
        rank[left] += 1
    return rank


def crowding(latency_ms: ArrayLike, score: ArrayLike) -> FloatArray:
    """Crowding distance of each row among rows of one front, (N,); infinite at both ends.

    The gap between both neighbours, as a share of the front's extent, summed over log latency and
    score.
    """
    distance = np.zeros(len(np.asarray(score)))
    for values in (np.log(np.asarray(latency_ms, dtype=float)), np.asarray(score, dtype=float)):
        order = np.argsort(values, kind="stable")
        ascending = values[order]
        extent = ascending[-1] - ascending[0]
        distance[order[[0, -1]]] = np.inf
        if extent > 0:
            distance[order[1:-1]] += (ascending[2:] - ascending[:-2]) / extent
    return distance


class Nsga2(Searcher):
    """Evolution of a whole front, by latency on the first goal's target and score.

    Of the settings it reads population, mutation and crossover.
    """

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        chosen: list[Architecture] = []
        if len(self.scores) >= self.settings.population:
            population = self._population()

            def parent() -> Architecture:  # the population is in order of fitness
                return population[int(rng.integers(len(population), size=2).min())]

            breeding = Breeding(
                self.space, self.goals, self.settings.mutation, self.settings.crossover
            )
            chosen = breeding.children(parent, count, rng, self.knows)
        return self.filled(chosen, count, rng)

    def _population(self) -> list[Architecture]:
        """The fittest of all that was told, the fittest first."""
        known = list(self.scores)
        score = np.array([self.scores[a] for a in known])
        latencies, usage = self.goals.measure(ArchitectureBatch.of(known))
        latency_ms, excess = latencies[0], np.maximum(usage.min(axis=0) - 1, 0)
        rank = np.full(len(known), len(known), dtype=np.intp)
        within = np.flatnonzero(excess == 0)
        rank[within] = ranks(latency_ms[within], score[within])
        distance = np.zeros(len(known))
        for level in np.unique(rank[within]):
            same = np.flatnonzero(rank == level)
            distance[same] = crowding(latency_ms[same], score[same])
        order = np.lexsort((-distance, rank, excess))
        return [known[row] for row in order[: self.settings.population]]
