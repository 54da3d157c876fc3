"""What every searcher promises, and what each adds."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from nas.search.acquisition import choose
from nas.search.constraints import FloatArray, Limits
from nas.search.evolution import RegularizedEvolution
from nas.search.front import non_dominated
from nas.search.goals import Goal, Goals
from nas.search.guided import GuidedSearch
from nas.search.nsga2 import crowding, ranks
from nas.search.pool import Pool, build_pool
from nas.search.search import new_searcher
from nas.search.searcher import Searcher
from nas.search.settings import Algorithm, SearchSettings
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


OURS = [name for name in get_args(Algorithm) if not name.startswith("optuna")]
every_searcher = pytest.mark.parametrize("algorithm", OURS)
LEAST = {"random": 0.6, "evolution": 0.6, "hat": 0.6} | {
    f"autotinybert-{rule}": 0.85 for rule in ("fast", "evolved")
}
"""The share of the limit that proposals must use."""


def run(searcher: Searcher, rounds: int, count: int = 8) -> list[Architecture]:
    """Ask and tell; everything asked for, in order."""
    asked: list[Architecture] = []
    for _ in range(rounds):
        batch = searcher.ask(count)
        searcher.tell(batch, score(batch) if batch else [])
        asked += batch
    return asked


@every_searcher
@pytest.mark.parametrize("budgets", [(0.4,), (0.4, 0.25)])
def test_proposals_are_distinct_and_keep_to_the_limits(algorithm, budgets):
    asked = run(make(algorithm, SPACE, *budgets), 6)
    ms = latency(ArchitectureBatch.of(asked))
    assert len(set(asked)) == len(asked)
    assert len(asked) == 48 or algorithm == "autotinybert-fast"  # few have BERT's proportions
    assert all(architecture in SPACE for architecture in asked)
    _, pool = surroundings(SPACE, *budgets)
    least = LEAST.get(algorithm, 0.0)
    feasible = [pool.latency_ms[pool.latency_ms <= budget].max() for budget in budgets]
    allowed = [
        (ms <= budget) & (ms >= least * most * (1 - 1e-9))
        for budget, most in zip(budgets, feasible, strict=True)
    ]
    assert np.any(allowed, axis=0).all()


@every_searcher
def test_the_seed_decides(algorithm):
    first, same = run(make(algorithm), 4), run(make(algorithm), 4)
    other = run(make(algorithm, seed=4), 4)
    assert first == same
    assert first != other


@every_searcher
def test_telling_stored_scores_restores_the_state(algorithm):
    undisturbed = make(algorithm)
    stored = run(undisturbed, 4)
    restored = make(algorithm)
    restored.tell(stored, score(stored))
    assert run(restored, 2) == run(undisturbed, 2)


@every_searcher
def test_what_is_being_evaluated_is_not_proposed_again(algorithm):
    searcher = make(algorithm)
    run(searcher, 3, count=2)
    waiting = searcher.ask(3) + searcher.ask(3) + searcher.ask(3)
    assert len(set(waiting)) == 9


def test_a_batch_is_chosen_with_those_that_are_being_scored_in_mind(monkeypatch):
    """And at the limits of each goal, beside the best that is known there."""
    given = []

    def watched(predictor, pending, candidates, feasible, best, count):
        given.append((list(pending), list(candidates), feasible, best))
        return choose(predictor, pending, candidates, feasible, best, count)

    monkeypatch.setattr("nas.search.guided.choose", watched)
    searcher = make("guided", SPACE, 0.4, 0.25)
    known = run(searcher, 3)
    given.clear()
    asked = [searcher.ask(4), searcher.ask(4), searcher.ask(4)]
    assert [pending for pending, *_ in given] == [[], asked[0], [*asked[0], *asked[1]]]
    expected = searcher.predictor().expect(ArchitectureBatch.of(known))
    ms = latency(ArchitectureBatch.of(known))
    for _, candidates, feasible, best in given:
        limits = np.array([0.4, 0.25])[:, None]
        assert (feasible == (latency(ArchitectureBatch.of(candidates)) <= limits)).all()
        assert best == pytest.approx([expected[ms <= 0.4].max(), expected[ms <= 0.25].max()])
        assert not set(candidates) & set(known)


@every_searcher
def test_a_space_is_exhausted_once_and_without_repeats(algorithm):
    goals, pool = surroundings(TINY, 0.2)
    most = pool.usage[pool.usage <= 1].max()
    near = Goals(tuple(replace(goal, least_usage=0.6 * most) for goal in goals.each))
    asked = run(make(algorithm, TINY, 0.2), 12, count=40)
    assert len(set(asked)) == len(asked)
    if not algorithm.startswith("autotinybert"):
        rows = np.flatnonzero((near if algorithm in LEAST else goals).allow(pool.usage))
        assert set(asked) == set(pool.batch(rows))


@every_searcher
@pytest.mark.parametrize(
    ("scores", "named"), [([0.5], "as many scores"), ([0.5, float("nan")], "finite")]
)
def test_scores_must_match_and_be_finite(algorithm, scores, named):
    searcher = make(algorithm)
    with pytest.raises(NasError, match=named):
        searcher.tell(searcher.ask(2), scores)


def test_evolution_finds_more_than_chance_and_guided_more_than_evolution():
    def regret(algorithm: str) -> float:
        """Mean over seeds of what is lacking to the optimum within the budget after 64 scores."""
        _, pool = surroundings(SPACE, 0.4)
        optimum = score(list(pool.batch(np.flatnonzero(pool.usage[0] <= 1)))).max()
        found = [score(run(make(algorithm, seed=seed), 8)).max() for seed in range(3)]
        return float(np.mean(optimum - np.array(found)))

    chance, evolved, led = map(regret, ("random", "evolution", "guided"))
    assert evolved < chance
    assert led < 0.1 * evolved + 1e-9


# ---- evolution -----------------------------------------------------------------------------------


def test_children_come_from_the_tournaments_best_and_old_members_die():
    """With a tournament of everyone, most children are neighbours of the best still alive."""
    searcher = make("evolution", population=8, tournament=8, crossover=0.0, mutation=0.0, near=0.0)
    members = searcher.ask(8)
    searcher.tell(members, np.arange(8.0)[::-1])  # the oldest is the best
    born = searcher.ask(6)
    # Eight draws of eight may miss the best, so not all, but most children are its neighbours.
    assert sum(child in SPACE.neighbours(members[0]) for child in born) >= len(born) / 2

    searcher.tell(born[:1], [0.0])  # the oldest leaves
    assert any(child in SPACE.neighbours(members[1]) for child in searcher.ask(6))


def test_beyond_the_limits_the_smaller_excess_is_the_fitter_parent():
    searcher = make("evolution", population=4, tournament=4)
    assert isinstance(searcher, RegularizedEvolution)
    over = [SPACE.largest, SPACE.neighbours(SPACE.largest)[0]]
    (within,) = searcher.ask(1)
    rng = np.random.default_rng(0)
    searcher.tell(over, [0.99, 0.98])
    assert searcher._winner(rng) == over[1]
    searcher.tell([within], [0.1])
    assert within in {searcher._winner(rng) for _ in range(4)}


# ---- the whole front -----------------------------------------------------------------------------


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


# ---- guided --------------------------------------------------------------------------------------


def test_the_expected_best_of_an_enumerated_space_are_found():
    searcher = make("guided")
    assert isinstance(searcher, GuidedSearch)
    run(searcher, 8)
    found = searcher.ask_expected_best(8)
    searcher.tell(found, score(found))
    _, pool = surroundings(SPACE, 0.4)
    rows = np.flatnonzero(pool.usage[0] <= 1)
    optimum = max(pool.batch(rows), key=lambda a: score([a])[0])
    assert optimum in searcher._history.scores


def test_the_expected_best_serve_every_budget():
    searcher = make("guided", SPACE, 0.2, 0.4)
    assert isinstance(searcher, GuidedSearch)
    run(searcher, 10)
    found = searcher.ask_expected_best(8)
    searcher.tell(found, score(found))
    _, pool = surroundings(SPACE, 0.2, 0.4)
    for usage in pool.usage:
        optimum = max(pool.batch(np.flatnonzero(usage <= 1)), key=lambda a: score([a])[0])
        assert (
            score([optimum])[0]
            - max(
                score([a])[0]
                for a in searcher._history.scores
                if latency(ArchitectureBatch.of([a]))[0] <= pool.latency_ms[usage <= 1].max()
            )
            < 2e-3
        )


def test_a_search_ends_when_nothing_is_expected_to_gain():
    greedy, patient = make("guided", least_gain=1e-3), make("guided")
    assert isinstance(greedy, GuidedSearch)
    asked = run(greedy, 60)
    assert greedy.ask(8) == []
    assert len(asked) < 240
    assert greedy.expected_gain is not None
    assert greedy.expected_gain < 1e-3
    _, pool = surroundings(SPACE, 0.4)
    optimum = score(list(pool.batch(np.flatnonzero(pool.usage[0] <= 1)))).max()
    assert optimum - score(asked).max() < 3e-3
    assert len(run(patient, 60)) == 480


# ---- AutoTinyBERT's Fast rule --------------------------------------------------------------------


def test_the_fast_rule_keeps_to_berts_proportions():
    space = SearchSpace.from_dict(
        SPACE.to_dict() | {"intermediate_size": {"min": 32, "max": 512, "step": 16}}
    )
    asked = run(make("autotinybert-fast", space), 6)
    for architecture in asked:
        (layer, *_), hidden = architecture.layers, architecture.hidden_size
        assert 1.6 * hidden <= layer.intermediate_size <= 1.9 * hidden
        assert 0.7 * hidden <= layer.qkv_size <= hidden


def test_exhaustive_search_needs_a_space_that_is_held_whole():
    goals = Goals((Goal(latency, Limits(0.4)),))
    pool = build_pool(SPACE, goals, max_enumerated=10, rng=np.random.default_rng(0))
    with pytest.raises(NasError, match="exhaustive needs a space that can be enumerated"):
        new_searcher(SPACE, goals, pool, replace(SETTINGS, algorithm="exhaustive"))
