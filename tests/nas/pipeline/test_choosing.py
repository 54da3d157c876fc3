"""What the next candidate may be predicted at after one too slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.target import Target
from nas.pipeline.choosing import _cut_ms
from nas.pipeline.measuring import Trial, check_target
from nas.pipeline.searching import _kept_free
from nas.search.constraints import Limits
from supernet.architecture import Architecture
from supernet.errors import NasError

ARCHITECTURE = Architecture.uniform(num_layers=1, hidden_size=8, num_heads=1, intermediate_size=8)


def trial(predicted_ms: float, measured_ms: float, limit_ms: float) -> Trial:
    return Trial(
        ARCHITECTURE, predicted_ms, limit_ms, measured_ms, measured_ms, measured_ms, 9.0, 9.0, False
    )


def test_before_any_trial_the_headroom_is_kept() -> None:
    assert _cut_ms(Limits(5.0, headroom=0.03), []) == pytest.approx(4.85)


@given(st.floats(0.5, 4.85), st.floats(0.9, 2.0), st.floats(0.8, 1.25))
def test_what_is_as_much_slower_than_predicted_then_fits(
    predicted: float, slower: float, pace: float
) -> None:
    """Also where the machine's pace, and with it a speed-up's budget, has changed meanwhile."""
    limits = Limits(5.0, headroom=0.03)
    tried = trial(predicted, predicted * slower * pace, limits.latency_ms * pace)
    cut = _cut_ms(limits, [tried])
    assert cut < predicted
    assert cut * slower * pace <= tried.limit_ms * 0.97 * 1.000001 or slower < 1


@given(st.floats(0.0, 0.5), st.floats(-0.5, 1.0), st.floats(0.1, 100.0))
def test_the_upper_bound_of_what_a_search_may_pick_passes_as_a_candidate(
    headroom: float, margin: float, budget_ms: float
) -> None:
    limits = Limits(budget_ms, headroom=_kept_free(headroom, margin))
    passes_ms = budget_ms * (1 - headroom) * 1.000001
    assert limits.max_latency_ms * (1 + max(margin, 0.0)) <= passes_ms
    assert limits.max_latency_ms * (1 + max(margin, 0.0)) >= passes_ms * 0.9999


def test_no_model_is_handed_over_for_int8() -> None:
    target = Target(threads=1, batch_size=1, sequence_length=8)
    check_target(target)
    with pytest.raises(NasError, match="dtype int8"):
        check_target(Target.from_dict(target.to_dict() | {"dtype": "int8"}))
