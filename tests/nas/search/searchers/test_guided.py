"""The guided search: the best expected, for every budget, and an end."""

from __future__ import annotations

import numpy as np
import pytest

from nas.search.acquisition import choose
from nas.search.searchers.guided import GuidedSearch
from supernet.batch import ArchitectureBatch
from tests.nas.search.searchers.problem import (
    SPACE,
    latency,
    make,
    run,
    score,
    surroundings,
)


def test_the_expected_best_of_an_enumerated_space_are_found():
    searcher = make("guided")
    assert isinstance(searcher, GuidedSearch)
    run(searcher, 8)
    found = searcher.ask_expected_best(8)
    searcher.tell(found, score(found))
    _, pool = surroundings(SPACE, 0.4)
    rows = np.flatnonzero(pool.usage[0] <= 1)
    optimum = max(pool.batch(rows), key=lambda a: score([a])[0])
    assert optimum in searcher.scores


def test_the_expected_best_serve_every_budget():
    searcher = make("guided", SPACE, 0.2, 0.4)
    assert isinstance(searcher, GuidedSearch)
    run(searcher, 10)
    found = searcher.ask_expected_best(8)
    searcher.tell(found, score(found))
    _, pool = surroundings(SPACE, 0.2, 0.4)
    for usage in pool.usage:
        optimum = max(pool.batch(np.flatnonzero(usage <= 1)), key=lambda a: score([a])[0])
        assert (
            score([optimum])[0]
            - max(
                score([a])[0]
                for a in searcher.scores
                if latency(ArchitectureBatch.of([a]))[0] <= pool.latency_ms[usage <= 1].max()
            )
            < 2e-3
        )


@pytest.mark.slow
def test_a_search_ends_when_nothing_is_expected_to_gain():
    greedy, patient = make("guided", least_gain=1e-3), make("guided")
    assert isinstance(greedy, GuidedSearch)
    asked = run(greedy, 60)
    assert greedy.ask(8) == []
    assert len(asked) < 240
    assert greedy.expected_gain is not None
    assert greedy.expected_gain < 1e-3
    _, pool = surroundings(SPACE, 0.4)
    optimum = score(list(pool.batch(np.flatnonzero(pool.usage[0] <= 1)))).max()
    assert optimum - score(asked).max() < 3e-3
    assert len(run(patient, 60)) == 480


def test_a_batch_is_chosen_with_those_that_are_being_scored_in_mind(monkeypatch):
    """And at the limits of each goal, beside the best that is known there."""
    given = []

    def watched(predictor, pending, candidates, feasible, best, count):
        given.append((list(pending), list(candidates), feasible, best))
        return choose(predictor, pending, candidates, feasible, best, count)

    monkeypatch.setattr("nas.search.searchers.guided.choose", watched)
    searcher = make("guided", SPACE, 0.4, 0.25)
    assert isinstance(searcher, GuidedSearch)
    known = run(searcher, 3)
    given.clear()
    asked = [searcher.ask(4), searcher.ask(4), searcher.ask(4)]
    assert [pending for pending, *_ in given] == [[], asked[0], [*asked[0], *asked[1]]]
    expected = searcher.predictor().expect(ArchitectureBatch.of(known))
    ms = latency(ArchitectureBatch.of(known))
    for _, candidates, feasible, best in given:
        limits = np.array([0.4, 0.25])[:, None]
        assert (feasible == (latency(ArchitectureBatch.of(candidates)) <= limits)).all()
        assert best == pytest.approx([expected[ms <= 0.4].max(), expected[ms <= 0.25].max()])
        assert not set(candidates) & set(known)
