import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from latency.design import spread


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
