"""AutoTinyBERT's rules."""

from __future__ import annotations

from supernet.space import SearchSpace
from tests.nas.search.searchers.problem import (
    SPACE,
    make,
    run,
)


def test_the_fast_rule_keeps_to_berts_proportions():
    space = SearchSpace.from_dict(
        SPACE.to_dict() | {"intermediate_size": {"min": 32, "max": 512, "step": 16}}
    )
    asked = run(make("autotinybert-fast", space), 6)
    for architecture in asked:
        (layer, *_), hidden = architecture.layers, architecture.hidden_size
        assert 1.6 * hidden <= layer.intermediate_size <= 1.9 * hidden
        assert 0.7 * hidden <= layer.qkv_size <= hidden
