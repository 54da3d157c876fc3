import math
from datetime import UTC, datetime
from itertools import count

import pytest

from latency.timing import (
    Block,
    Protocol,
    Record,
    Stopwatch,
    Usual,
    measure,
    now,
    record,
    usual_reference,
)
from supernet.errors import NasError

USUAL = Usual(1.0, 1.0)
QUICK = Protocol(
    rounds=3, extra_rounds=0, settle_ms=0.0, block_ms=0.0, minimum_calls=2, patience_ms=0.0
)


def block(*samples_ms, reference_ms=1.0, round_reference_ms=1.0, preemptions=0):
    return Block(samples_ms, reference_ms, round_reference_ms, preemptions)


def test_callables_are_interleaved_and_the_reference_runs_beside_each():
    ran = []
    calls = [lambda name=name: ran.append(name) for name in "ab"]
    records = record(
        calls, reference=[lambda: ran.append("r"), lambda: ran.append("m")], protocol=QUICK
    )
    order = [name for index, name in enumerate(ran) if index == 0 or ran[index - 1] != name]
    assert order == list("rmrmarmrmb") * 3
    assert [len(one.blocks) for one in records] == [3, 3]
    assert all(len(b.samples_ms) == 2 for one in records for b in one.blocks)


def test_more_work_takes_longer():
    fast, slow = measure([lambda: sum(range(10)), lambda: sum(range(300_000))], protocol=QUICK)
    assert fast.minimum_ms < slow.minimum_ms
    assert fast.minimum_ms <= fast.p50_ms <= fast.p95_ms


def test_progress_ends_with_all_done():
    seen = []
    record([lambda: None] * 2, protocol=QUICK, progress=lambda *state: seen.append(state))
    assert seen[-1] == (6, 6)


def test_nothing_to_measure_is_nothing():
    assert measure([], protocol=QUICK) == []


def test_a_limit_still_leaves_three_rounds():
    (taken,) = record([lambda: None], protocol=Protocol(rounds=50, limit_s=0.0))
    assert len(taken.blocks) == 3


def test_disturbed_blocks_do_not_count():
    quiet = [block(2.0, 2.2)] * 3
    disturbed = [block(9.0, 9.0, preemptions=1), block(8.0, 8.0, reference_ms=1.5)]
    latency = Record((*quiet, *disturbed)).latency(USUAL)
    assert latency.samples_ms == (2.0, 2.2) * 3
    assert latency.steady_ms == pytest.approx(2.1)


def test_a_long_block_may_be_preempted_now_and_then():
    usual = [block(50.0, 50.0, 50.0, preemptions=3)] * 3
    busy = [block(50.0, 50.0, 50.0, preemptions=4)] * 3
    assert Record(tuple(usual)).is_steady(USUAL)
    assert not Record(tuple(busy)).is_steady(USUAL)


def test_where_all_are_disturbed_the_least_disturbed_count():
    blocks = [block(float(16 - n), preemptions=16 - n) for n in range(15)]
    assert Record(tuple(blocks)).latency(USUAL).samples_ms == (2.0, 3.0, 4.0, 5.0)


def test_where_all_are_as_disturbed_their_own_times_have_no_say():
    blocks = [block(5.0 if n % 2 else 9.0, preemptions=2) for n in range(40)]
    latency = Record(tuple(blocks)).latency(USUAL)
    assert (latency.p50_ms, latency.p95_ms) == (7.0, 9.0)


def test_where_all_are_preempted_alike_the_reference_decides():
    blocks = [block(float(n), reference_ms=9.0 - n, preemptions=1) for n in range(8)]
    assert set(Record(tuple(blocks)).latency(USUAL).samples_ms) == {5.0, 6.0, 7.0}


def test_drift_is_divided_out():
    slow = [block(2.2 * n, reference_ms=1.1, round_reference_ms=1.1) for n in (1, 1, 1)]
    assert Record(tuple(slow)).latency(USUAL).steady_ms == pytest.approx(2.0)
    assert Record(tuple(slow)).latency(USUAL).p50_ms == pytest.approx(2.2)


def test_usual_reference_is_a_low_one():
    records = [Record(tuple(block(1.0, round_reference_ms=1.0 + n / 10) for n in range(11)))]
    assert usual_reference(records) == (1.0, pytest.approx(1.25))


def test_a_record_is_steady_by_three_undisturbed_blocks():
    quiet, busy = [block(1.0)], [block(1.0, preemptions=2)]
    assert Record(tuple(3 * quiet + 9 * busy)).is_steady(USUAL)
    assert not Record(tuple(2 * quiet + 2 * busy)).is_steady(USUAL)
    assert Record(tuple(2 * quiet)).is_steady(USUAL)


def test_a_slow_reference_is_waited_for():
    """It is slow at first; blocks begin once it is as fast as it is known to be."""
    runs = count()
    log = []

    def reference():
        log.append("slow" if next(runs) < 20 else "usual")
        total = 200_000 if log[-1] == "slow" else 10
        sum(range(total))

    patient = Protocol(rounds=1, extra_rounds=0, minimum_calls=1, patience_ms=10_000.0)
    record([lambda: log.append("call")], reference=[reference], protocol=patient, beside_ms=0.5)
    assert "slow" in log
    assert log[: log.index("call")][-1] == "usual"
    log.clear()
    hasty = Protocol(rounds=1, extra_rounds=0, minimum_calls=1, patience_ms=0.0)
    runs = count()
    record([lambda: log.append("call")], reference=[reference], protocol=hasty, beside_ms=0.5)
    assert log[: log.index("call")][-1] == "slow"


def test_a_stopwatch_goes_forward_and_now_is_a_date():
    watch = Stopwatch()
    assert 0 <= watch.seconds() <= watch.seconds() < math.inf
    assert datetime.fromisoformat(now()).tzinfo == UTC


def test_protocol_is_checked():
    with pytest.raises(NasError, match="rounds"):
        Protocol(rounds=0)
