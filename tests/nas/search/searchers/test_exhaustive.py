"""Exhaustive enumeration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nas.search.constraints import Limits
from nas.search.goals import Goal, Goals
from nas.search.pool import build_pool
from nas.search.searcher import new_searcher
from supernet.errors import NasError
from tests.nas.search.searchers.problem import (
    SETTINGS,
    SPACE,
    latency,
)


def test_exhaustive_search_needs_a_space_that_is_held_whole():
    goals = Goals((Goal(latency, Limits(0.4)),))
    pool = build_pool(SPACE, goals, max_enumerated=10, rng=np.random.default_rng(0))
    with pytest.raises(NasError, match="exhaustive needs a space that can be enumerated"):
        new_searcher(SPACE, goals, pool, replace(SETTINGS, algorithm="exhaustive"))
