"""A small problem that searchers are tried on: spaces, latencies and scores without chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nas.search.constraints import FloatArray, Limits
from nas.search.goals import Goal, Goals
from nas.search.pool import Pool, build_pool
from nas.search.searcher import Searcher, new_searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

SPACE = SearchSpace(
    name="uniform",
    num_layers=(1, 2, 3, 4),
    hidden_size=tuple(range(32, 257, 32)),
    num_heads=(1, 2, 4),
    qkv_size=tuple(range(32, 257, 32)),
    intermediate_size=tuple(range(64, 513, 16)),
)
TINY = SearchSpace.from_dict(
    SPACE.to_dict() | {"num_layers": [1, 2], "hidden_size": [32, 64], "intermediate_size": [64]}
)
SETTINGS = SearchSettings(population=16, tournament=4, seed=3)


def latency(batch: ArchitectureBatch) -> FloatArray:
    width = batch.over_layers(4 * batch.qkv_size + 2 * batch.intermediate_size)
    return 0.1 + 0.05 * batch.num_layers + 1e-6 * batch.hidden_size * width


def score(architectures: list[Architecture]) -> FloatArray:
    batch = ArchitectureBatch.of(architectures)
    qkv = batch.qkv_size.max(1)
    return (
        1 - 4 / batch.hidden_size - 0.1 / batch.num_layers - 3 / qkv - 0.02 * batch.num_heads[:, 0]
    )


def surroundings(space: SearchSpace, *budgets: float) -> tuple[Goals, Pool]:
    goals = Goals(tuple(Goal(latency, Limits(budget)) for budget in budgets))
    return goals, build_pool(space, goals, max_enumerated=10**6, rng=np.random.default_rng(0))


def make(
    algorithm: str, space: SearchSpace = SPACE, *budgets: float, **settings: int | float
) -> Searcher:
    goals, pool = surroundings(space, *(budgets or (0.4,)))
    return new_searcher(space, goals, pool, replace(SETTINGS, algorithm=algorithm, **settings))


def run(searcher: Searcher, rounds: int, count: int = 8) -> list[Architecture]:
    """Ask and tell; everything asked for, in order."""
    asked: list[Architecture] = []
    for _ in range(rounds):
        batch = searcher.ask(count)
        searcher.tell(batch, score(batch) if batch else [])
        asked += batch
    return asked
