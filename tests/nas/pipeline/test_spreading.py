"""Neurons spread over layers: within the limit, and never worth less than equal layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas.pipeline.spreading import spread
from supernet.architecture import Architecture

SIZES = (32, 64, 96, 128)
EQUAL = Architecture.uniform(num_layers=3, hidden_size=16, num_heads=2, intermediate_size=64)


def usage_at(prices: Sequence[float]) -> object:
    def usage(some: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array(
            [
                sum(
                    p * layer.intermediate_size for p, layer in zip(prices, one.layers, strict=True)
                )
                for one in some
            ]
        )

    return usage


@given(
    arrays(float, (3, 4), elements=st.floats(0, 1)),
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
def test_it_keeps_to_the_limit_and_loses_nothing(
    steps: NDArray[np.float64], prices: list[float]
) -> None:
    worth = steps.cumsum(1)
    usage = usage_at(prices)
    (limit,) = usage([EQUAL])
    found = spread(EQUAL, SIZES, worth, usage, float(limit))
    places = [SIZES.index(layer.intermediate_size) for layer in found.layers]
    assert usage([found])[0] <= limit
    assert worth[range(3), places].sum() >= worth[:, SIZES.index(64)].sum()


def test_neurons_go_where_they_are_worth_most_for_their_price() -> None:
    worth = np.outer([1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 4.0])
    usage = usage_at([1.0, 1.0, 0.01])
    (limit,) = usage([EQUAL])
    found = spread(EQUAL, SIZES, worth, usage, float(limit))
    assert [layer.intermediate_size for layer in found.layers][2] == 128
    worth = np.outer([1.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0])
    found = spread(EQUAL, SIZES, worth, usage_at([1.0, 1.0, 1.0]), 192.0)
    assert [layer.intermediate_size for layer in found.layers] == [128, 32, 32]
