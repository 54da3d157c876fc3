"""The pool is the space, with its latencies, or a sample that reaches the limits."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search.constraints import FloatArray, Limits, parameters
from nas.search.goals import Goal, Goals
from nas.search.pool import Pool, build_pool
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

TINY = SearchSpace(
    name="tiny",
    num_layers=(1, 2),
    hidden_size=(16, 32),
    num_heads=(1, 2, 4),
    qkv_size=(8, 16, 32),
    intermediate_size=(16, 32, 64),
    head_size=(4, 8),
)
LARGE = SearchSpace(
    name="large",
    num_layers=tuple(range(1, 7)),
    hidden_size=tuple(range(64, 385, 16)),
    num_heads=(1, 2, 4, 8),
    qkv_size=tuple(range(32, 385, 32)),
    intermediate_size=tuple(range(128, 1537, 64)),
    uniform=False,
)


def latency(batch: ArchitectureBatch) -> FloatArray:
    width = batch.over_layers(4 * batch.qkv_size + 2 * batch.intermediate_size)
    return 0.1 + 0.05 * batch.num_layers + 1e-6 * batch.hidden_size * width


def pool_of(space: SearchSpace, limits: Limits, max_enumerated: int = 10**6) -> Pool:
    rng = np.random.default_rng(0)
    goals = Goals((Goal(latency, limits),))
    return build_pool(space, goals, max_enumerated=max_enumerated, rng=rng)


@pytest.mark.parametrize("uniform", [True, False])
def test_a_small_space_is_held_whole(uniform):
    space = SearchSpace.from_dict(TINY.to_dict() | {"uniform": uniform})
    pool = pool_of(space, Limits(1.0))
    batch = pool.batch(np.arange(len(pool)))
    assert pool.complete
    assert len(set(batch)) == len(pool) == space.size
    assert all(architecture in space for architecture in batch)
    assert pool.latency_ms == pytest.approx(latency(batch))
    assert pool.usage[0] == pytest.approx(pool.latency_ms)


def test_blocks_hold_what_one_batch_holds():
    pool = pool_of(TINY, Limits(1.0))
    rows = np.arange(len(pool))[::-3]
    assert [a for block in pool.blocks(rows) for a in block] == list(pool.batch(rows))


def test_what_goals_allow_is_exact():
    limits = (Limits(0.17, parameters=600_000), Limits(0.16))
    goals = Goals(tuple(Goal(latency, one, least_usage=0.8) for one in limits))
    pool = build_pool(TINY, goals, max_enumerated=10**6, rng=np.random.default_rng(0))
    allowed = set(pool.batch(np.flatnonzero(goals.allow(pool.usage))))
    for architecture in pool.batch(np.arange(len(pool))):
        ms = latency(ArchitectureBatch.of([architecture]))[0]
        shares = [max(ms / 0.17, architecture.parameters() / 600_000), ms / 0.16]
        assert (architecture in allowed) == any(0.8 <= share <= 1 for share in shares)


def test_goals_on_several_targets_are_measured_by_each():
    def slower(batch: ArchitectureBatch) -> FloatArray:
        return 3 * latency(batch)

    goals = Goals((Goal(latency, Limits(0.2)), Goal(slower, Limits(0.3)), Goal(latency, Limits(1))))
    batch = pool_of(TINY, Limits(1.0)).batch(np.arange(5))
    ms, usage = goals.measure(batch)
    assert ms == pytest.approx(np.stack([latency(batch), slower(batch), latency(batch)]))
    assert usage == pytest.approx(ms / np.array([[0.2], [0.3], [1.0]]))


def test_draws_are_distinct_and_leave_out_what_is_excluded():
    pool, rng = pool_of(TINY, Limits(1.0)), np.random.default_rng(1)
    rows = np.arange(len(pool))
    first = pool.draw(rows, 25, rng, lambda a: False)
    others = pool.draw(rows, len(pool), rng, first.__contains__)
    assert len(set(first)) == 25
    assert len(others) == len(pool) - 25
    assert not set(first) & set(others)


@pytest.mark.parametrize(("space", "limits"), [(TINY, (0.22, 0.3)), (LARGE, (0.5, 0.8))])
def test_near_the_limits_are_all_depths_in_turn(space, limits):
    goals = Goals(tuple(Goal(latency, Limits(limit)) for limit in limits))
    pool = build_pool(space, goals, max_enumerated=10**6, rng=np.random.default_rng(0))
    count = 3 * len(space.num_layers)
    near = pool.near_limits(count, np.random.default_rng(1))
    assert len(set(near)) == len(near) == count
    depth = np.array([one.num_layers for one in near])
    assert set(depth) == set(pool.sizes[(pool.usage <= 1).any(axis=0), 1])
    usage = goals.usage(near)
    close = np.zeros(count, bool)
    for ours, theirs in zip(usage, pool.usage, strict=True):
        most = np.array(
            [theirs[(pool.sizes[:, 1] == d) & (theirs <= 1)].max(initial=0) for d in depth]
        )
        close |= (ours <= 1) & (ours >= 0.9 * most)
    assert close.all()


def test_a_large_space_is_sampled_up_to_a_tight_limit():
    fastest = latency(ArchitectureBatch.of([LARGE.smallest]))[0]
    pool = pool_of(LARGE, Limits(1.3 * fastest))
    assert not pool.complete
    batch = pool.batch(np.arange(len(pool)))
    assert len(set(batch)) == len(pool)
    assert all(architecture in LARGE for architecture in batch)
    assert ((pool.usage[0] <= 1) & (pool.usage[0] >= 0.6)).sum() > 100


def test_a_large_space_is_sampled_up_to_a_cap_on_parameters():
    cap = int(1.02 * LARGE.smallest.parameters())
    pool = pool_of(LARGE, Limits(100.0, parameters=cap))
    batch = pool.batch(np.flatnonzero((pool.usage[0] <= 1) & (pool.usage[0] >= 0.6)))
    assert len(batch) > 50
    assert (parameters(batch) <= cap).all()


@pytest.mark.parametrize("space", [TINY, LARGE])
def test_a_budget_below_the_fastest_names_a_feasible_one(space):
    fastest = latency(ArchitectureBatch.of([space.smallest]))[0]
    with pytest.raises(NasError, match="least feasible budget is") as raised:
        pool_of(space, Limits(fastest / 2))
    advised = float(str(raised.value).split("budget is ")[1].split(" ms")[0])
    assert (pool_of(space, Limits(advised)).usage <= 1).any()
