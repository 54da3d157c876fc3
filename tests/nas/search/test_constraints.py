"""Limits hold for each architecture exactly as its own parameter count says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.constraints import Limits, parameters, unmet
from supernet.architecture import Architecture, EncoderShape, Layer
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError

layers = st.builds(
    lambda heads, size, intermediate: Layer(heads, heads * size, intermediate),
    st.integers(1, 12),
    st.integers(1, 64),
    st.integers(1, 3072),
)
architectures = st.builds(
    Architecture, st.integers(1, 1024), st.lists(layers, min_size=1, max_size=8).map(tuple)
)
shapes = st.builds(
    EncoderShape,
    st.integers(1, 50_000),
    st.integers(1, 1024),
    st.integers(1, 2),
    st.integers(1, 1000),
)


@given(st.lists(architectures, min_size=1, max_size=6), shapes)
def test_parameters_are_those_of_each_architecture(many, shape):
    counted = parameters(ArchitectureBatch.of(many), shape)
    assert counted.tolist() == [a.parameters(shape) for a in many]


@given(
    st.floats(0.1, 10),
    st.none() | st.integers(1, 1000),
    st.none() | st.integers(1, 4000),
    st.lists(st.tuples(st.floats(0.1, 10), st.integers(1, 1000)), min_size=1),
)
def test_usage_is_at_most_one_exactly_within_all_limits(budget, cap, memory, many):
    limits = Limits(budget, cap, memory)
    latency, count = np.array(many).T
    usage = limits.usage(latency, count.astype(np.int64))
    for (ms, n), share in zip(many, usage, strict=True):
        within = ms <= budget and n <= (cap or n) and 4 * n <= (memory or 4 * n)
        assert (share <= 1) == within


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((0.0,), "latency_ms"),
        ((-1.0,), "latency_ms"),
        ((float("nan"),), "latency_ms"),
        ((float("inf"),), "latency_ms"),
        ((None,), "latency_ms"),
        ((True,), "latency_ms"),
        ((1.0, 0), "parameters"),
        ((1.0, "many"), "parameters"),
        ((1.0, None, -5), "memory_bytes"),
        ((1.0, None, None, 1.0), "headroom"),
        ((1.0, None, None, -0.1), "headroom"),
    ],
)
def test_limits_are_positive_numbers(arguments, named):
    with pytest.raises(NasError, match=named):
        Limits(*arguments)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(0.5), "least feasible budget is 1.24 ms"),
        (Limits(9.0, parameters=99), "smallest has 100 "),
        (Limits(9.0, memory_bytes=399), "smallest has 100 "),
        (Limits(2.0, parameters=150), "fastest needs 5 ms"),
    ],
)
def test_unmet_limits_say_what_is_feasible(limits, message):
    error = unmet(limits, np.array([1.2345, 5.0]), np.array([200, 100]))
    assert message in str(error)
    assert "\n" not in str(error)


@given(st.floats(1e-3, 1e4), st.floats(0, 0.5))
def test_the_advised_budget_is_feasible(fastest, headroom):
    limits = Limits(fastest / 2, headroom=headroom)
    error = unmet(limits, np.array([fastest]), np.array([1]))
    advised = float(str(error).split("budget is ")[1].split(" ms")[0])
    least = fastest / (1 - headroom)
    assert least <= advised <= least * 1.02
    usage = replace(limits, latency_ms=advised).usage(np.array([fastest]), np.array([1]))
    assert usage <= 1


def test_limits_that_differ_in_their_last_digits_have_one_key() -> None:
    """As on two machines; what a person would tell apart stays apart."""
    limits = Limits(1.5, parameters=7_000_000, headroom=0.26451538075986925)
    other_machine = replace(limits, headroom=0.26451538075986425)
    assert limits != other_machine
    assert limits.identity() == other_machine.identity()
    assert limits.identity() == {
        "latency_ms": 1.5,
        "parameters": 7_000_000,
        "memory_bytes": None,
        "headroom": 0.264515381,
    }
    for changed in ({"latency_ms": 1.5001}, {"headroom": 0.2646}, {"parameters": 7_000_001}):
        assert replace(limits, **changed).identity() != limits.identity()
