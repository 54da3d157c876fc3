"""HAT's generations and AutoTinyBERT's: once the first is known, children come of its fittest."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search.searchers import autotinybert, hat
from tests.nas.search.searchers.problem import make, score


@pytest.mark.parametrize(
    ("algorithm", "population"),
    [("hat", hat.POPULATION), ("autotinybert-evolved", autotinybert.POPULATION)],
)
def test_children_come_of_the_fittest_of_the_first_generation(
    algorithm: str, population: int
) -> None:
    """Told that good is bad, a searcher breeds worse than what it began with."""
    first = make(algorithm).ask(population)
    assert len(first) == population
    means = {}
    for sign in (1, -1):
        searcher = make(algorithm)
        assert searcher.ask(population) == first
        searcher.tell(first, sign * score(first))
        born = searcher.ask(16)
        assert len(born) == 16
        assert not set(born) & set(first)
        means[sign] = score(born).mean()
    assert means[1] > score(first).mean() > means[-1]
    almost = make(algorithm)
    almost.tell(first[:-1], score(first[:-1]))
    assert np.mean(score(almost.ask(16))) < means[1], "the first generation is not whole"
