from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from latency import tables
from latency.tables import ShapeTable, distinct

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=20)


def product(asked):
    def function(shapes):
        asked.extend(map(tuple, shapes))
        return shapes.prod(axis=1) + 0.5

    return function


@given(st.lists(st.tuples(sizes, st.integers(0, 9)), min_size=1, max_size=5))
def test_a_table_gives_what_its_function_does_and_asks_once(batches):
    asked = []
    table = ShapeTable(product(asked), 2)
    for column, width in batches:
        first, second = np.array([width]), np.array(column)
        expected = np.where((width > 0) & (second > 0), width * second + 0.5, 0.0)
        np.testing.assert_array_equal(table(first, second), expected)
    assert len(asked) == len(set(asked))
    assert all(a and b for a, b in asked)


@given(st.lists(st.lists(st.tuples(*[st.integers(0, 70_000)] * 4), min_size=1), max_size=3))
def test_a_table_keeps_to_its_size_whatever_it_is_asked(batches):
    def function(shapes):
        return shapes.sum(axis=1) + 0.5

    with mock.patch.object(tables, "MOST_CELLS", 600), mock.patch.object(tables, "_AT_ONCE", 2):
        table = ShapeTable(function, 4)
        for rows in batches:
            shapes = np.array(rows)
            expected = np.where((shapes > 0).all(axis=1), function(shapes), 0.0)
            np.testing.assert_array_equal(table(*shapes.T), expected)
            assert table._table.size <= 600


def test_arrays_broadcast():
    table = ShapeTable(product([]), 3)
    hidden, rest = np.array([[2], [3]]), np.array([[4, 0], [5, 6]])
    np.testing.assert_array_equal(table(hidden, rest, rest), [[32.5, 0.0], [75.5, 108.5]])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1),
    st.sampled_from([1, 2**32]),
)
def test_distinct_rows_are_numpys(rows, scale):
    table = np.array(rows) * scale
    np.testing.assert_array_equal(distinct(*table.T), np.unique(table, axis=0))
