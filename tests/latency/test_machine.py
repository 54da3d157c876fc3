import os
from dataclasses import replace

import pytest

from latency.affinity import MOST_THREADS, default_threads, pinned, quiet_cores
from latency.fingerprint import Fingerprint, usable_cores
from latency.machine import Usage, others_share
from latency.target import Target


def test_threads_are_held_to_as_many_cores_and_let_go():
    before = usable_cores()
    with pinned(1) as held:
        if held:  # where the machine has a core to spare
            assert usable_cores() == list(held)
            assert len(held) == 1
            assert set(held) <= set(before)
    assert usable_cores() == before


def test_nothing_is_done_where_no_core_is_to_spare():
    before = usable_cores()
    with pinned(len(before)) as held:
        assert held == ()
        assert usable_cores() == before


def test_cores_are_the_last_and_each_its_own(monkeypatch):
    monkeypatch.setattr("latency.affinity._physical", lambda core: str(core // 2))
    assert quiet_cores([0, 1, 2, 3, 4, 5], 2) == [3, 5]
    assert quiet_cores([0, 1, 2, 3, 4, 5], 3) == [1, 3, 5]
    assert quiet_cores([0, 1, 2, 3], 3) == [1, 2, 3]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (64, MOST_THREADS)])
def test_by_default_there_is_a_thread_a_core_up_to_a_few(monkeypatch, cores, threads):
    monkeypatch.setattr("latency.affinity.usable_cores", lambda: list(range(cores)))
    assert default_threads() == threads


def test_more_threads_than_cores_are_told_of():
    board = Fingerprint("Cortex-A76", 4, 8, "performance", "", "aarch64", "Linux", {})
    target = Target(threads=4, batch_size=1, sequence_length=64)
    assert board.warnings(target) == []
    (crowded,) = board.warnings(replace(target, threads=8))
    assert crowded.startswith("crowded: 8 threads share 4 cores")
    assert crowded.endswith("give the target no more than 4")
    (single,) = replace(board, cores=1).warnings(target)
    assert "share 1 core," in single
    eager = replace(target, threads=8, device="cuda", runtime="torch-eager")
    assert board.warnings(eager) == []


def test_what_others_use_is_all_that_is_busy_but_oneself():
    before = Usage(all_s=100.0, busy_s=50.0, own_s=10.0)
    assert others_share(before, Usage(120.0, 60.0, 15.0)) == pytest.approx(0.25)
    assert others_share(before, Usage(120.0, 54.0, 15.0)) == 0.0
    assert others_share(before, before) == 0.0
    assert others_share(None, before) == 0.0


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="needs Linux's /proc/stat")
def test_a_machine_counts_on():
    before = Usage.now()
    sum(range(1_000_000))
    after = Usage.now()
    assert after.all_s >= before.all_s
    assert after.own_s >= before.own_s
    assert 0.0 <= others_share(before, after) <= 1.0
