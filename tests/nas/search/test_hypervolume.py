"""The area that a front dominates, against counting the cells of a grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.hypervolume import hypervolume, hypervolume_over, reference_point
from supernet.errors import NasError

REFERENCE = (10.0, 0.2)
# Beyond the reference in either as well, and few enough values that ties are common.
pairs = st.lists(
    st.tuples(
        st.sampled_from([0.3, 0.5, 1.0, 1.3, 2.0, 7.7, 10.0, 12.0]),
        st.sampled_from([-0.4, 0.1, 0.2, 0.25, 0.5, 0.61, 0.9]),
    ),
    max_size=12,
)


def volume(points: list[tuple[float, float]]) -> float:
    return hypervolume([p[0] for p in points], [p[1] for p in points], REFERENCE)


def volume_of_cells(points: list[tuple[float, float]]) -> float:
    """The plane is cut at every coordinate; a cell counts if some point is better than all of it.

    No front, no sorting of points.
    """
    far, low = REFERENCE
    cuts_ms = sorted({ms for ms, _ in points if ms < far} | {far})
    cuts = sorted({score for _, score in points if score > low} | {low})
    return sum(
        np.log(right / left) * (upper - lower)
        for left, right in itertools.pairwise(cuts_ms)
        for lower, upper in itertools.pairwise(cuts)
        if any(ms <= left and score >= upper for ms, score in points)
    )


@given(pairs)
def test_agrees_with_counting_cells(points):
    assert volume(points) == pytest.approx(volume_of_cells(points), abs=1e-12)


def test_agrees_with_integrating_the_best_score_within_each_latency():
    rng = np.random.default_rng(0)
    latency, score = np.exp(rng.uniform(-1, 2.2, 40)), rng.random(40)
    edges = np.linspace(np.log(latency.min()), np.log(REFERENCE[0]), 200_001)
    middles = (edges[:-1] + edges[1:]) / 2
    best = np.full(len(middles), REFERENCE[1])
    for ms, value in zip(latency, score, strict=True):
        best[middles >= np.log(ms)] = np.maximum(best[middles >= np.log(ms)], value)
    integral = float((best - REFERENCE[1]).sum() * (edges[1] - edges[0]))

    assert hypervolume(latency, score, REFERENCE) == pytest.approx(integral, rel=1e-4)


@given(pairs, st.randoms(use_true_random=False))
def test_order_does_not_matter(points, random):
    shuffled = random.sample(points, len(points))
    assert volume(shuffled) == pytest.approx(volume(points), abs=1e-12)


@given(pairs, st.floats(0, 5), st.floats(0, 1))
def test_a_dominated_point_changes_nothing(points, slower, worse):
    for ms, score in points:
        assert volume([*points, (ms + slower, score - worse)]) == volume(points)


@given(pairs, st.floats(0.1, 10.0))
def test_a_ratio_of_latencies_is_worth_the_same_everywhere(points, pace):
    scaled = hypervolume(
        [pace * ms for ms, _ in points],
        [score for _, score in points],
        (pace * REFERENCE[0], REFERENCE[1]),
    )
    assert scaled == pytest.approx(volume(points), abs=1e-9)


@given(pairs)
def test_the_running_value_is_that_of_every_beginning(points):
    running = hypervolume_over([p[0] for p in points], [p[1] for p in points], REFERENCE)

    assert running.shape == (len(points),)
    assert running.tolist() == pytest.approx(
        [volume_of_cells(points[: count + 1]) for count in range(len(points))], abs=1e-12
    )
    assert (np.diff(running) >= 0).all()


@given(pairs.filter(bool))
def test_every_point_counts_before_the_reference_of_all(points):
    latency, score = [p[0] for p in points], [p[1] for p in points]
    reference = reference_point(latency, score)
    assert all(hypervolume([ms], [value], reference) > 0 for ms, value in points)


@pytest.mark.parametrize(
    ("latency_ms", "score", "reference", "message"),
    [
        ([1.0, 2.0], [0.5], REFERENCE, "one value for each latency"),
        ([0.0], [0.5], REFERENCE, "latency_ms must be above 0 and finite, not 0.0"),
        ([1.0], [float("nan")], REFERENCE, "score must be finite, not nan"),
        ([1.0], [0.5], (0.0, 0.5), "reference must be a latency above 0 ms"),
        ([1.0], [0.5], (1.0, float("inf")), "reference must be a latency above 0 ms"),
    ],
)
def test_impossible_values_are_refused(latency_ms, score, reference, message):
    for function in (hypervolume, hypervolume_over):
        with pytest.raises(NasError, match=message):
            function(latency_ms, score, reference)


def test_a_reference_of_nothing_is_refused():
    with pytest.raises(NasError, match="at least one"):
        reference_point([], [])
