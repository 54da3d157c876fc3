from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latency.calls import Subject, calls_of
from latency.design import cost_ms, draw, kernel_shapes, most_useful, opening, spread
from latency.kernels import SIZES, Kernel
from latency.process import fit_posterior
from latency.target import Workload
from supernet.architecture import Architecture
from supernet.space import SearchSpace

SPACE = SearchSpace.from_dict(
    {
        "name": "small",
        "num_layers": [1, 2, 3],
        "hidden_size": [16, 32],
        "num_heads": [1, 2],
        "qkv_size": [16, 32],
        "intermediate_size": [32, 64, 128],
        "uniform": True,
    }
)
GRID = (Workload(1, 8), Workload(2, 16))


@given(
    arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)),
           elements=st.floats(-10, 10, width=16), unique=True),
    st.integers(1, 40),
)  # fmt: skip
def test_spread_picks_distinct_rows_nested_by_count(points, count):
    rows = spread(points, count)
    assert len(set(rows)) == len(rows) == min(count, len(points))
    assert list(spread(points, max(1, count - 1))) == list(rows)[: max(1, count - 1)]


def test_spread_starts_with_the_extremes():
    points = np.arange(11.0)[:, None]
    assert list(spread(points, 3)) == [10, 0, 5]


@pytest.mark.parametrize("first_token", [True, False])
@pytest.mark.parametrize("compression", [(1,), (1, 2)])
def test_an_opening_has_every_kernel_and_the_extremes(first_token, compression):
    rng = np.random.default_rng(0)
    space = replace(SPACE, compression=compression)
    planned = opening([space], GRID, first_token_last_layer=first_token, rng=rng)
    subjects = [subject for subject, _ in planned]
    kinds = {s.what.kind for s in subjects if isinstance(s.what, Kernel)}
    assert kinds == {
        kind
        for kind in SIZES
        if (first_token or not kind.startswith("first_token"))
        and (len(compression) > 1 or "factored" not in kind)
    }
    assert {space.largest, space.smallest} <= {s.what for s in subjects}
    assert len(subjects) == len(set(subjects))


def test_models_are_drawn_from_all_spaces_at_all_workloads():
    other = SearchSpace.from_dict(SPACE.to_dict() | {"hidden_size": [48]})
    drawn = draw([SPACE, other], GRID, 40, np.random.default_rng(0))
    assert sum(one.what in SPACE for one in drawn) == 20
    assert {one.workload for one in drawn} == set(GRID)


def test_kernel_shapes_are_those_of_the_space():
    shapes = kernel_shapes([SPACE], True, np.random.default_rng(0))
    assert {tuple(row) for row in shapes["feed_forward"]} == {
        (hidden, intermediate) for hidden in (16, 32) for intermediate in (32, 64, 128)
    }


def test_what_is_useful_is_of_the_spaces_sizes_and_not_twice():
    rng = np.random.default_rng(0)
    subjects = [s for s, _ in opening([SPACE], GRID, first_token_last_layer=True, rng=rng)]
    subjects += draw([SPACE], GRID, 10, rng)
    calls = calls_of(subjects, first_token_last_layer=True)
    times_ms = 0.01 + 0.01 * sum(count.sum(axis=1) for count in calls.counts.values())
    posterior = fit_posterior(calls, times_ms)
    useful = most_useful(posterior, [SPACE], GRID, 6, first_token_last_layer=True, rng=rng)
    assert len(useful) == 6
    for one in useful:
        if isinstance(one.what, Architecture):
            assert one.what.hidden_size in SPACE.hidden_size
            assert all(x.intermediate_size in SPACE.intermediate_size for x in one.what.layers)


def test_what_takes_longer_costs_more():
    call, kernel, small, large = (
        Subject.kernel(Kernel("call", ()), GRID[0]),
        Subject.kernel(Kernel("head", (16,)), GRID[0]),
        Subject(SPACE.smallest, GRID[0]),
        Subject(SPACE.largest, GRID[0]),
    )
    costs = cost_ms([call, kernel, small, large], np.array([0.01, 0.02, 1.0, 3.0]))
    assert list(costs) == sorted(costs)
    assert costs[0] > 0
