"""What every searcher promises, and what ageing evolution adds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nas.search.constraints import FloatArray, Limits
from nas.search.evolution import RegularizedEvolution
from nas.search.guided import GuidedEvolution
from nas.search.pool import Pool, Region, build_pool
from nas.search.random_search import RandomSearch
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

SPACE = SearchSpace(
    name="uniform",
    num_layers=(1, 2, 3, 4),
    hidden_size=tuple(range(32, 257, 32)),
    num_heads=(1, 2, 4),
    qkv_size=tuple(range(32, 257, 32)),
    intermediate_size=tuple(range(64, 513, 64)),
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


def surroundings(space: SearchSpace, budget: float) -> tuple[Region, Pool]:
    region = Region(latency, Limits(budget), least_usage=0.6)
    rng = np.random.default_rng(0)
    return region, build_pool(space, region, max_enumerated=10**6, rng=rng)


def random_search(space: SearchSpace, budget: float, settings: SearchSettings) -> Searcher:
    _, pool = surroundings(space, budget)
    return RandomSearch(pool, pool.near(0.6), settings.seed)


def evolution(space: SearchSpace, budget: float, settings: SearchSettings) -> RegularizedEvolution:
    region, pool = surroundings(space, budget)
    return RegularizedEvolution(space, region, pool, pool.near(0.6), settings)


def guided(space: SearchSpace, budget: float, settings: SearchSettings) -> GuidedEvolution:
    region, pool = surroundings(space, budget)
    return GuidedEvolution(space, region, pool, pool.near(0.6), settings)


Make = Callable[[SearchSpace, float, SearchSettings], Searcher]
every_searcher = pytest.mark.parametrize("make", [random_search, evolution, guided])


def run(searcher: Searcher, rounds: int, count: int = 8) -> list[Architecture]:
    """Ask and tell; everything asked for, in order."""
    asked: list[Architecture] = []
    for _ in range(rounds):
        batch = searcher.ask(count)
        searcher.tell(batch, score(batch) if batch else [])
        asked += batch
    return asked


@every_searcher
def test_proposals_are_distinct_and_lie_in_the_region(make: Make):
    asked = run(make(SPACE, 0.4, SETTINGS), 6)
    ms = latency(ArchitectureBatch.of(asked))
    assert len(set(asked)) == len(asked) == 48
    assert all(architecture in SPACE for architecture in asked)
    assert (ms <= 0.4).all()
    assert (ms >= 0.6 * 0.4).all()


@every_searcher
def test_the_seed_decides(make: Make):
    first, same = run(make(SPACE, 0.4, SETTINGS), 4), run(make(SPACE, 0.4, SETTINGS), 4)
    other = run(make(SPACE, 0.4, replace(SETTINGS, seed=4)), 4)
    assert first == same
    assert first != other


@every_searcher
def test_telling_stored_scores_restores_the_state(make: Make):
    undisturbed = make(SPACE, 0.4, SETTINGS)
    stored = run(undisturbed, 4)
    restored = make(SPACE, 0.4, SETTINGS)
    restored.tell(stored, score(stored))
    assert run(restored, 2) == run(undisturbed, 2)


@every_searcher
def test_what_is_being_evaluated_is_not_proposed_again(make: Make):
    searcher = make(SPACE, 0.4, SETTINGS)
    run(searcher, 3)
    waiting = searcher.ask(8) + searcher.ask(8) + searcher.ask(8)
    assert len(set(waiting)) == 24


@every_searcher
def test_a_space_is_exhausted_once_and_without_repeats(make: Make):
    _, pool = surroundings(TINY, 0.2)
    asked = run(make(TINY, 0.2, SETTINGS), 12, count=40)
    assert set(asked) == set(pool.batch(pool.near(0.6)))
    assert len(set(asked)) == len(asked)


@every_searcher
@pytest.mark.parametrize(
    ("scores", "named"), [([0.5], "as many scores"), ([0.5, float("nan")], "finite")]
)
def test_scores_must_match_and_be_finite(make: Make, scores, named):
    searcher = make(SPACE, 0.4, SETTINGS)
    with pytest.raises(NasError, match=named):
        searcher.tell(searcher.ask(2), scores)


def test_evolution_finds_more_than_chance_and_guided_more_than_evolution():
    def regret(make: Make) -> float:
        """Mean over seeds of what is lacking to the optimum of the region after 64 scores."""
        _, pool = surroundings(SPACE, 0.4)
        optimum = score(list(pool.batch(pool.near(0.6)))).max()
        found = [
            score(run(make(SPACE, 0.4, replace(SETTINGS, seed=seed)), 8)).max() for seed in range(3)
        ]
        return float(np.mean(optimum - np.array(found)))

    chance, evolved, led = (regret(make) for make in (random_search, evolution, guided))
    assert evolved < chance
    assert led < 0.1 * evolved + 1e-9


def test_children_come_from_the_tournaments_best_and_old_members_die():
    """With a tournament of everyone, all children are mutants of the best still alive."""
    settings = replace(SETTINGS, population=8, tournament=8, crossover=0.0, mutation=0.0)
    searcher = evolution(SPACE, 0.4, settings)
    members = searcher.ask(8)
    rising = np.arange(8.0)
    searcher.tell(members, rising[::-1])  # the oldest is the best
    rng = np.random.default_rng(0)
    born = searcher.children(6, rng, lambda a: False)
    # Eight draws of eight may miss the best, so not all, but most children are its neighbours.
    assert sum(child in SPACE.neighbours(members[0]) for child in born) >= len(born) / 2

    searcher.tell(searcher.ask(1), [0.0])  # the oldest leaves
    born = searcher.children(6, rng, lambda a: False)
    assert any(child in SPACE.neighbours(members[1]) for child in born)


def test_beyond_the_limits_the_smaller_excess_is_the_fitter_parent():
    searcher = evolution(SPACE, 0.4, replace(SETTINGS, tournament=16))
    over = [SPACE.largest, SPACE.neighbours(SPACE.largest)[0]]
    within = searcher.ask(1)
    searcher.tell([*over, *within], [0.99, 0.98, 0.1])
    fitness = searcher._fitness
    assert sorted(fitness, key=fitness.__getitem__) == [*over, *within]


def test_the_expected_best_of_an_enumerated_space_are_found():
    searcher = guided(SPACE, 0.4, SETTINGS)
    run(searcher, 8)
    found = searcher.ask_expected_best(8)
    searcher.tell(found, score(found))
    _, pool = surroundings(SPACE, 0.4)
    optimum = max(pool.batch(pool.near(0.6)), key=lambda a: score([a])[0])
    assert optimum in searcher._history.scores
