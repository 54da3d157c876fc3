"""Factors fitted to inputs, against NumPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.compress.fitted_factors import nearest_by_outputs, nearest_table
from supernet.compress.kronecker import nearest
from supernet.factors import Factors

shapes = st.tuples(st.integers(1, 4), st.integers(1, 4))


def product(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    return sum(np.kron(a, b) for a, b in zip(left.numpy(), right.numpy(), strict=True))


def drawn(factors: Factors, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix, and inputs of very different sizes, (examples, columns)."""
    rng = np.random.default_rng(seed)
    rows, columns = factors.left[0] * factors.right[0], factors.left[1] * factors.right[1]
    mixing = rng.normal(size=(columns, columns)) * 10.0 ** rng.uniform(-1, 1, size=columns)
    return rng.normal(size=(rows, columns)), rng.normal(size=(4 * columns, columns)) @ mixing


@settings(deadline=None)
@given(shapes, shapes, st.integers(1, 3), st.integers(0, 2**31))
def test_outputs_are_nearer_than_those_of_the_nearest_weights(
    left: tuple[int, int], right: tuple[int, int], terms: int, seed: int
) -> None:
    terms = min(terms, left[0] * left[1], right[0] * right[1])
    factors = Factors(left, right, terms)
    matrix, inputs = drawn(factors, seed)
    given = torch.from_numpy(matrix), torch.from_numpy(inputs.T @ inputs)
    a, b = nearest_by_outputs(*given, factors)
    assert a.shape == (terms, *left)
    assert b.shape == (terms, *right)

    def error(weight: np.ndarray) -> float:
        return float(((inputs @ (matrix - weight).T) ** 2).sum())

    whole = error(np.zeros_like(matrix))
    by_weights = error(product(*nearest(given[0], factors)))
    assert error(product(a, b)) <= by_weights + 1e-6 * whole


@settings(deadline=None)
@given(shapes, shapes, st.integers(1, 2), st.integers(0, 2**31))
def test_no_other_left_factors_are_nearer(
    left: tuple[int, int], right: tuple[int, int], terms: int, seed: int
) -> None:
    """The sum is linear in A, so for its B the best A is that of ordinary least squares."""
    factors = Factors(left, right, min(terms, left[0] * left[1], right[0] * right[1]))
    matrix, inputs = drawn(factors, seed)
    moments = torch.from_numpy(inputs.T @ inputs)
    a, b = nearest_by_outputs(torch.from_numpy(matrix), moments, factors)
    columns = []
    for term in range(factors.terms):
        for row, column in np.ndindex(*left):
            one = np.zeros(left)
            one[row, column] = 1
            columns.append((inputs @ np.kron(one, b[term].numpy()).T).ravel())
    wanted = (inputs @ matrix.T).ravel()
    best, *_ = np.linalg.lstsq(np.stack(columns, axis=1), wanted, rcond=None)
    least = ((np.stack(columns, axis=1) @ best - wanted) ** 2).sum()
    found = ((inputs @ product(a, b).T - inputs @ matrix.T) ** 2).sum()
    assert found <= least + 1e-5 * (wanted**2).sum()


@given(st.integers(2, 8), st.integers(2, 8), st.integers(1, 3), st.integers(0, 2**31))
def test_columns_times_rows_leave_the_smallest_singular_values_of_the_outputs(
    rows: int, columns: int, terms: int, seed: int
) -> None:
    factors = Factors((rows, 1), (1, columns), min(terms, rows, columns))
    matrix, inputs = drawn(factors, seed)
    moments = torch.from_numpy(inputs.T @ inputs)
    found = product(*nearest_by_outputs(torch.from_numpy(matrix), moments, factors))
    outputs = inputs @ matrix.T
    values = np.linalg.svd(outputs, compute_uv=False)
    error = np.linalg.norm(outputs - inputs @ found.T)
    assert error == pytest.approx(np.linalg.norm(values[factors.terms :]), abs=1e-6 * values[0])


@given(
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_a_table_keeps_the_directions_of_the_rows_that_are_read(
    rows: int, n1: int, n2: int, terms: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    table, shares = rng.normal(size=(rows, n1 * n2)), rng.uniform(0.01, 1.0, size=rows)
    factors = Factors((rows, n1), (1, n2), min(terms, n2))
    a, b = nearest_table(torch.from_numpy(table), torch.from_numpy(shares), factors)
    error = (shares[:, None] * (product(a, b) - table) ** 2).sum()
    parts = (np.sqrt(shares)[:, None] * table).reshape(rows * n1, n2)
    values = np.linalg.svd(parts, compute_uv=False)
    assert error == pytest.approx((values[factors.terms :] ** 2).sum(), abs=1e-9)


@given(st.integers(4, 12), st.sampled_from([(2, 2), (3, 2), (2, 3)]), st.integers(0, 2**31))
def test_whole_rows_hold_every_other_sum_of_as_many_dimensions(
    rows: int, parts: tuple[int, int], seed: int
) -> None:
    """Why a table of more than one product is of low rank."""
    n1, n2 = parts
    rng = np.random.default_rng(seed)
    table, shares = torch.from_numpy(rng.normal(size=(rows, n1 * n2))), torch.ones(rows)

    def error(factors: Factors) -> float:
        found = product(*nearest_table(table, shares, factors))
        return float(((found - table.numpy()) ** 2).sum())

    for terms in range(1, n2 + 1):
        whole = error(Factors((rows, 1), (1, n1 * n2), terms * n1))
        assert whole <= error(Factors((rows, n1), (1, n2), terms)) + 1e-9
