"""What every searcher of the registry promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.search.goals import Goals
from nas.search.registry import SEARCHERS
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from tests.nas.search.searchers.problem import (
    SPACE,
    TINY,
    latency,
    make,
    run,
    score,
    surroundings,
)

OURS = [name for name in SEARCHERS if not name.startswith("optuna")]
every_searcher = pytest.mark.parametrize("algorithm", OURS)
LEAST = {"random": 0.6, "evolution": 0.6, "hat": 0.6} | {
    f"autotinybert-{rule}": 0.85 for rule in ("fast", "evolved")
}
"""The share of the limit that proposals must use."""


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
