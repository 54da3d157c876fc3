"""The gain that scoring an architecture is expected to bring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from nas.search.acquisition import choose, expected_gain, expected_improvement
from nas.search.score_predictor import ScorePredictor
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch

NONE = ArchitectureBatch.of([])


def sample(count: int, seed: int) -> ArchitectureBatch:
    rng = np.random.default_rng(seed)
    return ArchitectureBatch.of(
        [
            Architecture.uniform(
                num_layers=int(rng.integers(1, 7)),
                hidden_size=int(rng.integers(2, 25)) * 16,
                num_heads=2,
                intermediate_size=int(rng.integers(2, 25)) * 64,
            )
            for _ in range(count)
        ]
    )


def truth(batch: ArchitectureBatch) -> np.ndarray:
    return 0.9 - 4 / batch.hidden_size - 0.1 / batch.num_layers


@given(st.floats(-2, 2), st.floats(0.01, 2), st.floats(-2, 2))
def test_expected_improvement_is_its_integral(mean, deviation, best):
    integral, _ = quad(
        lambda s: (s - best) * norm.pdf(s, mean, deviation), best, max(best, mean) + 12 * deviation
    )
    found = expected_improvement(np.array([mean]), np.array([deviation]), np.array(best))
    assert found[0] == pytest.approx(integral, abs=1e-7)


def test_the_gain_is_summed_over_the_goals_whose_limits_are_kept():
    mean, deviation = np.array([0.8, 0.8, 0.8]), np.array([0.1, 0.1, 0.1])
    feasible = np.array([[True, True, False], [False, True, False]])
    gain = expected_gain(mean, deviation, feasible, np.array([0.7, 0.75]))
    first, second = (
        expected_improvement(mean[:1], deviation[:1], np.array(best))[0] for best in (0.7, 0.75)
    )
    assert gain == pytest.approx([first, first + second, 0.0])


def test_without_doubt_the_highest_expectation_is_chosen():
    known, asked = sample(40, 8), sample(60, 9)
    predictor = ScorePredictor().fit(known, truth(known))
    everywhere = np.ones((1, len(asked)), dtype=bool)
    best = predictor.expect(known).max(keepdims=True)
    (chosen,) = choose(predictor, NONE, asked, everywhere, best, 1)
    mean, deviation = predictor.predict(asked)
    assert chosen == np.argmax(expected_improvement(mean, deviation, best))


def test_each_pick_lowers_the_doubt_as_its_score_would():
    """The second of a batch is the first of a batch after the first is scored as expected."""
    known, asked = sample(30, 10), sample(60, 11)
    predictor = ScorePredictor().fit(known, truth(known))
    everywhere = np.ones((1, len(asked)), dtype=bool)
    best = predictor.expect(known).max(keepdims=True)
    first, second = choose(predictor, NONE, asked, everywhere, best, 2)

    mean = predictor.expect(asked)
    told = ArchitectureBatch.join(known, asked.take(np.array([first])))
    scores = np.append(truth(known), mean[first])
    after = ScorePredictor().fit(told, scores, like=predictor)
    best = np.maximum(best, mean[first])
    expected, deviation = after.predict(asked)
    gain = expected_improvement(expected, deviation, best)
    gain[first] = -np.inf
    assert second == np.argmax(gain)


def test_what_is_being_scored_is_not_doubted_twice():
    known, asked = sample(30, 10), sample(60, 11)
    predictor = ScorePredictor().fit(known, truth(known))
    everywhere = np.ones((1, len(asked)), dtype=bool)
    best = predictor.expect(known).max(keepdims=True)
    first, second = choose(predictor, NONE, asked, everywhere, best, 2)
    pending = asked.take(np.array([first]))
    rows = np.delete(np.arange(len(asked)), first)
    # Its expected score counts among the best known once it is told, and not before.
    raised = np.maximum(best, predictor.expect(pending))
    (chosen,) = choose(predictor, pending, asked.take(rows), everywhere[:, rows], raised, 1)
    assert rows[chosen] == second
