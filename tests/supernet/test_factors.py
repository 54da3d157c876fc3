"""The rule that chooses factors, against all that there are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from supernet.factors import Factors, choose_factors, choose_table, low_rank

size = st.integers(1, 6)
shapes = st.tuples(size, size)


@given(st.integers(2, 48), st.integers(2, 48), st.floats(1.0, 20.0), st.integers(1, 3))
def test_chosen_factors_are_the_largest_that_are_small_enough(
    rows: int, columns: int, ratio: float, terms: int
) -> None:
    found = choose_factors(rows, columns, ratio, terms)
    every = [
        Factors((m, n), (rows // m, columns // n), terms)
        for m in range(1, rows + 1)
        for n in range(1, columns + 1)
        if rows % m == 0 and columns % n == 0
    ]
    allowed = [
        one
        for one in every
        if one.parameters * ratio <= rows * columns
        and 1 not in (np.prod(one.left), np.prod(one.right))
        and terms <= min(np.prod(one.left), np.prod(one.right))
    ]
    assert (found is None) == (not allowed)
    if found is not None:
        assert found in allowed
        largest = [one for one in allowed if one.parameters == max(a.parameters for a in allowed)]
        assert found in largest
        assert found.rank == max(one.rank for one in largest)


@given(shapes, shapes, st.integers(1, 3), st.integers(0, 2**31))
def test_the_rank_is_what_random_factors_have(
    left: tuple[int, int], right: tuple[int, int], terms: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = sum(
        np.kron(rng.standard_normal(left), rng.standard_normal(right)) for _ in range(terms)
    )
    assert np.linalg.matrix_rank(matrix) <= Factors(left, right, terms).rank
    if terms == 1:
        assert np.linalg.matrix_rank(matrix) == Factors(left, right, 1).rank


@given(st.integers(2, 60), st.integers(1, 24), st.floats(1.0, 20.0))
def test_one_product_of_a_table_is_as_large_as_the_ratio_allows(
    rows: int, columns: int, ratio: float
) -> None:
    found = choose_table(rows, columns, ratio, 1)
    every = [
        Factors((rows, n), (1, columns // n)) for n in range(1, columns + 1) if columns % n == 0
    ]
    allowed = [one for one in every if one.parameters * ratio <= rows * columns]
    assert (found is None) == (not allowed)
    if found is not None:
        assert found in allowed
        assert found.parameters == max(one.parameters for one in allowed)


# Quarters, so that products with them are exact.
@given(st.integers(1, 60), st.integers(1, 60), st.integers(4, 80).map(lambda n: n / 4))
def test_low_rank_is_the_highest_that_is_small_enough(
    rows: int, columns: int, ratio: float
) -> None:
    found = low_rank(rows, columns, ratio, False)
    ranks = [r for r in range(1, 61) if r * (rows + columns) * ratio <= rows * columns]
    assert found == (Factors((rows, 1), (1, columns), ranks[-1]) if ranks else None)
    assert choose_table(rows, columns, ratio, 3) == found
