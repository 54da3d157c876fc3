"""Ageing evolution: who is a parent, and for how long."""

from __future__ import annotations

import numpy as np

from nas.search.searchers.evolution import RegularizedEvolution
from tests.nas.search.searchers.problem import (
    SPACE,
    make,
    run,
    score,
    surroundings,
)


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
