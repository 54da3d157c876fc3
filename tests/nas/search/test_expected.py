"""What a search's scores let expect of developed models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.expected import PRIOR_KEPT, Expectation, once_developed, outlook


def test_a_race_that_halves_the_gap_lets_expect_half_the_gap() -> None:
    before = np.array([0.6, 0.7, 0.8, 0.5, 0.65, 0.75] * 20)
    after = 0.9 - (0.95 - before) / 2
    expect = Expectation.of(before, after, teacher_before=0.95, teacher_after=0.9)
    assert expect.kept == pytest.approx(0.5, abs=0.01)
    assert expect(0.75) == pytest.approx(0.8, abs=0.005)
    assert expect(0.95) == pytest.approx(0.9)
    assert expect.deviation < 0.01


def test_none_is_expected_below_nothing() -> None:
    expect = Expectation.of([0.5], [0.2], teacher_before=1.0, teacher_after=0.7)
    assert expect([0.9, 0.1, -0.5])[1:].tolist() == [0.0, 0.0]
    assert expect(0.9) > 0.5


def test_without_a_race_a_prior_is_told_with_a_wide_deviation() -> None:
    expect = Expectation.of([], [], teacher_before=0.95, teacher_after=0.9)
    assert expect.kept == PRIOR_KEPT
    assert expect.deviation > 0.1


@given(
    st.lists(st.tuples(st.floats(0, 0.9), st.floats(0, 0.95)), max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_expectations_keep_the_order_of_scores(
    pairs: list[tuple[float, float]], one: float, other: float
) -> None:
    before, after = ([pair[i] for pair in pairs] for i in (0, 1))
    expect = Expectation.of(before, after, teacher_before=0.96, teacher_after=0.96)
    assert expect.kept >= 0
    low, high = expect([min(one, other), max(one, other)])
    assert low <= high


def test_racers_that_left_early_are_told_as_if_developed() -> None:
    """The winner's gap went from 4 points at the first rung to 2: so does that of who left then."""
    racers = [[0.80, 0.86, 0.87], [0.70, 0.84, 0.85], [0.60, 0.80]]
    assert once_developed(racers, 0.88, 0.90) == pytest.approx(
        [0.88, 0.90 - 0.05 * (0.02 / 0.03), 0.90 - 0.10 * 0.5]
    )


def test_a_gap_that_is_all_but_closed_scales_nothing() -> None:
    assert once_developed([[0.89, 0.90], [0.8, 0.85]], 0.91, 0.90) == pytest.approx([0.91, 0.85])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 12))
def test_of_equal_fits_the_shallower_promises_more(one: float, other: float, depth: int) -> None:
    low, high = min(one, other), max(one, other)
    assert low <= outlook(low, high, depth + 1) <= outlook(low, high, depth) <= high
    assert outlook(high, high, depth) == high
    assert outlook(low, high, 1) == pytest.approx(low)
    assert outlook(0.6, 0.9, 2) == pytest.approx(0.9 - 2 / 3 * 0.3)
