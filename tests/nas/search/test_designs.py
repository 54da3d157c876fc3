"""Shapes that people design by hand, found in a space."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search.constraints import Limits
from nas.search.designs import (
    DESIGNS,
    PREFERRED,
    SMALLER,
    designed,
    designs_below,
    fewer_layers,
    thinner,
    tinybert,
)
from nas.search.goals import Goal, Goals
from nas.search.pool import Pool, build_pool
from supernet.architecture import Architecture, Layer
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space

TEACHER = Architecture.uniform(
    num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536
)  # fmt: skip


def pool_of(limit: float) -> Pool:
    """All of a space, with the encoder's operations for a latency."""

    def predict(batch: ArchitectureBatch) -> np.ndarray:
        return batch.over_layers(batch.weights).astype(float)

    goals = Goals((Goal(predict, Limits(limit)),))
    space = load_space("minilm-native")
    return build_pool(space, goals, max_enumerated=10**7, rng=np.random.default_rng(0))


def of(pool: Pool) -> dict[str, Architecture]:
    rows = np.flatnonzero(pool.usage[0] <= 1)
    return designed(pool, rows, pool.latency_ms[rows], TEACHER)


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_fewer_layers_are_the_teachers_own(layers: int) -> None:
    whole = sum(layer.weights(384) for layer in TEACHER.layers)
    found = of(pool_of(whole * layers / 6))["fewer layers"]
    assert found == Architecture(384, TEACHER.layers[:layers])


def test_each_design_is_in_proportion_and_uses_the_limit() -> None:
    limit = 1_000_000
    found = of(pool_of(limit))
    assert set(found) == {"thinner", "TinyBERT's proportions"}  # one layer is 1.77 million
    assert found["thinner"].num_layers == 6
    assert found["TinyBERT's proportions"].num_layers == 4
    for one in found.values():
        weights = sum(layer.weights(one.hidden_size) for layer in one.layers)
        assert 0.6 * limit < weights <= limit  # the grid is coarse
        assert 3 < one.layers[0].intermediate_size / one.hidden_size < 5.5


def test_a_design_stands_for_each_smaller_budget() -> None:
    pool = pool_of(8_000_000)
    found = designs_below(pool, 0, TEACHER)
    assert len(found) == len(SMALLER)
    for one, share in zip(found, SMALLER, strict=True):
        weights = sum(layer.weights(one.hidden_size) for layer in one.layers)
        assert 0.5 * share * 8_000_000 < weights <= share * 8_000_000
    assert set(PREFERRED) == set(DESIGNS)


def test_no_design_stands_where_none_is_near() -> None:
    assert designs_below(pool_of(40_000), 0, TEACHER) == []


def test_designs_are_at_no_distance_from_themselves() -> None:
    tiny = Architecture.uniform(num_layers=4, hidden_size=312, num_heads=12, intermediate_size=1200)
    thin = Architecture.uniform(num_layers=6, hidden_size=192, num_heads=12, intermediate_size=768)
    for distance, one in ((tinybert, tiny), (thinner, thin), (fewer_layers, TEACHER)):
        assert distance(ArchitectureBatch.of([one]), TEACHER) == pytest.approx(0)
    assert len(DESIGNS) == 3


def test_layers_of_different_sizes_are_further_the_more_they_differ() -> None:
    def mixed(size: int) -> Architecture:
        return Architecture(312, (Layer(12, 312, 1200), Layer(12, 312, size)) * 2)

    distances = [
        float(tinybert(ArchitectureBatch.of([mixed(size)]), TEACHER)[0])
        for size in (1200, 600, 300)
    ]
    assert distances == pytest.approx([0, np.log(2) / 2, np.log(4) / 2])
