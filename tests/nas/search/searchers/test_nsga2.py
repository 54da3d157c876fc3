"""NSGA-II: ranks, crowding and the whole front."""

from __future__ import annotations

import numpy as np

from nas.search.front import non_dominated
from nas.search.searchers.nsga2 import crowding, ranks
from supernet.batch import ArchitectureBatch
from tests.nas.search.searchers.problem import (
    SPACE,
    latency,
    make,
    run,
    score,
    surroundings,
)


def test_ranks_are_those_of_peeling_fronts_off_one_by_one():
    rng = np.random.default_rng(7)
    ms, value = rng.integers(1, 12, 60).astype(float), rng.integers(0, 12, 60) / 10
    rank = ranks(ms, value)

    def dominates(a: int, b: int) -> bool:
        better = ms[a] <= ms[b] and value[a] >= value[b]
        return better and (ms[a] < ms[b] or value[a] > value[b] or a < b)

    for row in range(60):  # one more than the worst of those that dominate it
        above = [rank[other] for other in range(60) if other != row and dominates(other, row)]
        assert rank[row] == max(above, default=-1) + 1


def test_crowding_prefers_the_ends_and_the_lonely():
    distance = crowding([1.0, 2.0, 2.2, 8.0], [0.1, 0.5, 0.55, 0.9])
    assert np.isinf(distance[[0, 3]]).all()
    assert distance[2] > distance[1]  # its neighbours are farther apart


def test_nsga2_covers_the_front_better_than_chance():
    _, pool = surroundings(SPACE, 10.0)
    every = list(pool.batch(np.arange(len(pool))))
    ms, value = pool.latency_ms, score(every)
    front = non_dominated(ms, value)

    def missing(algorithm: str) -> float:
        """What the best known within each latency of the true front is short of it, on average."""
        found = run(make(algorithm, SPACE, 10.0, near=0.0), 20)
        mine, scores = latency(ArchitectureBatch.of(found)), score(found)
        best = [scores[mine <= ms[row]].max(initial=0.0) for row in front]
        return float(np.mean(value[front] - best))

    assert missing("nsga2") < 0.7 * missing("random")
