from __future__ import annotations

from collections import Counter

import pytest

from latency.profiler import LEAST_DRAWN
from latency.static_design import static_design
from latency.target import Workload
from supernet.configs import load_space

GRID = (Workload(1, 16), Workload(8, 64))


@pytest.mark.parametrize("name", ["minilm", "tiny"])
def test_a_design_has_a_bit_of_all_from_the_start(name):
    plan = static_design([load_space(name)], GRID, chosen=60, drawn=40, seed=3)
    assert plan == static_design([load_space(name)], GRID, chosen=60, drawn=40, seed=3)
    counts = Counter(role for _, role in plan)
    assert counts["chosen"] == 60
    assert counts["drawn"] == len({one for one, role in plan if role == "drawn"})
    assert counts["again"] == (counts["drawn"] + 2) // 3
    early = [role for _, role in plan[:60]]
    assert early.count("drawn") >= min(LEAST_DRAWN, counts["drawn"])


def test_what_is_measured_again_was_drawn_before():
    seen = set()
    for subject, role in static_design([load_space("tiny")], GRID, chosen=20, drawn=30, seed=0):
        assert (role != "again") or subject in seen
        if role == "drawn":
            seen.add(subject)


def test_more_is_chosen_only_where_there_is_more():
    plan = static_design([load_space("tiny")], GRID, chosen=5, drawn=1, seed=0)
    assert sum(role == "drawn" for _, role in plan) <= LEAST_DRAWN
