"""A finished search answers further budgets and targets, and scores nothing anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.report.answers import Answers, budget_ms, on_target
from nas.report.record import Evaluated, ShownFront
from nas.search.constraints import FloatArray
from nas.search.front import Point
from supernet.architecture import Architecture
from supernet.errors import NasError


def architecture(size: int) -> Architecture:
    return Architecture.uniform(
        num_layers=1, hidden_size=8 * size, num_heads=1, intermediate_size=16
    )


def evaluated(size: int, ms: float, score: float, *, within_caps: bool = True) -> Evaluated:
    return Evaluated(architecture(size), ms, score, score - 0.01, within_caps)


def shown(*evaluations: Evaluated) -> ShownFront:
    front = [Point(one.architecture, one.latency_ms, one.score) for one in evaluations[:1]]
    return ShownFront(
        metric="accuracy",
        points=tuple(front),
        evaluations=evaluations,
        chosen=0,
        percentile=50,
        budget_ms=2.0,
        model=(1.9, 0.9),
        teacher=(8.0, 0.95),
    )


SEARCH = shown(
    evaluated(1, 1.0, 0.80),
    evaluated(2, 2.0, 0.85),
    evaluated(3, 3.0, 0.84),
    evaluated(4, 2.5, 0.99, within_caps=False),
    evaluated(5, 4.0, 0.90),
)


@pytest.mark.parametrize(("budget", "size"), [(1.0, 1), (2.7, 2), (3.5, 2), (100.0, 5)])
def test_a_further_budget_has_the_highest_smoothed_score_within_it(budget, size):
    assert Answers(SEARCH).within(budget).architecture == architecture(size)


def test_a_budget_below_the_fastest_names_the_fastest():
    with pytest.raises(NasError, match=r"within 0\.5 ms; the fastest is predicted at 1 ms"):
        Answers(SEARCH).within(0.5)


def test_budgets_are_milliseconds_or_speed_ups_of_the_fronts_percentile():
    assert budget_ms(SEARCH, "3ms") == 3.0
    assert budget_ms(SEARCH, "4x") == 2.0
    assert budget_ms(SEARCH, "3ms@p50") == 3.0
    with pytest.raises(NasError, match="is of p95, this front of p50"):
        budget_ms(SEARCH, "3ms@p95")


def slower(architectures: Sequence[Architecture]) -> FloatArray:
    return np.array([50.0 / one.hidden_size for one in architectures])


def test_another_target_has_a_front_of_its_own():
    moved = on_target(SEARCH, slower)
    ms = [one.latency_ms for one in moved.evaluations]
    assert ms == pytest.approx(slower([one.architecture for one in SEARCH.evaluations]))
    # The widest is the fastest there, and scores highest; the one beyond the caps has no place.
    assert [point.architecture for point in moved.points] == [architecture(5)]
    assert Answers(moved).within(2.0).architecture == architecture(5)
    assert moved.model is moved.teacher is moved.chosen is moved.budget_ms is None
    with pytest.raises(NasError, match="the teacher was not timed on this target"):
        budget_ms(moved, "4x")


def test_a_report_without_evaluations_answers_for_no_other_target():
    with pytest.raises(NasError, match="lists no evaluations"):
        on_target(shown(), slower)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=12))
def test_no_allowed_evaluation_beats_a_point_of_the_moved_front(pairs):
    search = shown(*(evaluated(i + 1, ms, score) for i, (ms, score) in enumerate(pairs)))
    times = dict(zip([one.architecture for one in search.evaluations], pairs, strict=True))
    moved = on_target(search, lambda many: np.array([11 - times[one][0] for one in many]))
    for point in moved.points:
        assert not any(
            one.latency_ms <= point.latency_ms and one.score > point.score
            for one in moved.evaluations
        )
    fastest = min(one.latency_ms for one in moved.evaluations)
    assert moved.points[0].latency_ms == pytest.approx(fastest)
