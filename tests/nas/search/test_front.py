"""The front is what nothing beats, by comparison with every pair."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nas.search.front import Point, front_of, non_dominated
from supernet.architecture import Architecture

# Few distinct values, so that ties are common.
points = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=30)


def architecture(hidden_size: int) -> Architecture:
    return Architecture.uniform(
        num_layers=1, hidden_size=hidden_size, num_heads=1, intermediate_size=4
    )


def front(pairs: list[tuple[float, float]]) -> tuple[Point, ...]:
    return front_of(
        Point(architecture(row + 1), float(ms), float(score))
        for row, (ms, score) in enumerate(pairs)
    )


def beaten(row: int, pairs: list[tuple[float, float]]) -> bool:
    """Whether another point is at least as good in both, and better in one or given earlier."""
    ms, score = pairs[row]
    return any(
        other_ms <= ms
        and other_score >= score
        and ((other_ms, other_score) != (ms, score) or other < row)
        for other, (other_ms, other_score) in enumerate(pairs)
        if other != row
    )


@given(points)
def test_non_dominated_agrees_with_comparing_every_pair(pairs):
    expected = {row for row in range(len(pairs)) if not beaten(row, pairs)}
    rows = non_dominated([p[0] for p in pairs], [p[1] for p in pairs])
    assert set(rows.tolist()) == expected
    assert [pairs[row] for row in rows] == sorted(pairs[row] for row in rows)


@given(points)
def test_a_front_of_a_front_is_itself(pairs):
    found = front(pairs)
    assert front_of(found) == found
    assert all(a.latency_ms < b.latency_ms and a.score < b.score for a, b in pairwise(found))


def test_a_million_points_are_no_trouble():
    rng = np.random.default_rng(0)
    latency, score = rng.random((2, 1_000_000))
    rows = non_dominated(latency, score)
    assert (np.diff(latency[rows]) > 0).all()
    assert (np.diff(score[rows]) > 0).all()
