from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latency.cards import comparison_line
from latency.comparison import Comparison, common_spaces, common_workload, compare
from latency.target import Workload
from supernet.errors import NasError


def test_a_device_of_twice_the_time_is_half_as_fast_and_keeps_the_order(make_profile):
    found = compare(make_profile(), make_profile(slowdown=2.0, seed=1), count=60)
    assert found.ratio == pytest.approx(2.0, rel=0.02)
    assert found.kendall_tau > 0.95
    parameters = [group.parameters for group in found.groups]
    assert parameters == sorted(parameters)
    for group in found.groups:
        mean, least, most = group.ratio
        assert least <= mean <= most
        assert group.second_ms > group.first_ms


@pytest.mark.parametrize(
    ("tau", "told"),
    [(0.95, "models carries over"), (0.8, "models mostly carries over"), (0.6, "models does not")],
)
def test_how_far_an_order_carries_over_is_told(tau: float, told: str):
    found = Comparison(Workload(1, 64), (), np.ones(1), np.ones(1), (), 0.5, tau)
    line = comparison_line(found, "pi", "laptop")
    assert line.startswith("laptop is 2.00 times as fast as pi at ")
    assert f"the order of {told} (Kendall tau {tau:.2f}" in line


def test_workloads_must_meet(make_profile):
    short, long = Workload(1, 32), Workload(1, 128)
    both = make_profile(space="tiny", workloads=(long, short))
    one = make_profile(space="tiny", workloads=(short,))
    other = make_profile(space="tiny", workloads=(long,))
    assert common_workload(both, one) == common_workload(one, both) == short
    with pytest.raises(NasError, match="no workload in common"):
        common_workload(one, other)


def test_spaces_in_common_come_first(make_profile):
    tiny, minilm = make_profile(space="tiny"), make_profile()
    assert [one.name for one in common_spaces(tiny, minilm)] == ["tiny", "minilm"]
    factored = make_profile(space="minilm-factored")
    assert [one.compression for one in common_spaces(tiny, factored)] == [(1,), (1,)]
    assert [one.compression for one in common_spaces(factored, factored)] == [(1, 2, 4)]
    assert compare(minilm, factored, count=20).ratio == pytest.approx(1.0, rel=0.1)
    both = replace(tiny, spaces=tiny.spaces + minilm.spaces)
    assert [one.name for one in common_spaces(both, minilm)] == ["minilm"]
