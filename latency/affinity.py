"""Keeps threads on cores of their own while latencies are measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency.fingerprint import usable_cores

MOST_THREADS = 4
"""Threads by default, at most: small models gain little from more."""

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Holds this thread, and those started within, to as many cores as the target has threads.

    The cores are the last ones, for the first serve most interrupts, and each of its own
    physical core as far as there are enough. Nothing is done where the machine has no more cores
    than threads, or its operating system does not let a process choose.

    Returns:
        The logical cores, empty where nothing was done.
    """
    before = usable_cores()
    if not hasattr(os, "sched_setaffinity") or len(before) <= threads:
        yield ()
        return
    chosen = quiet_cores(before, threads)
    os.sched_setaffinity(0, chosen)
    try:
        yield tuple(chosen)
    finally:
        os.sched_setaffinity(0, before)


def default_threads() -> int:
    """As many as this process may use cores, up to :data:`MOST_THREADS`."""
    return min(MOST_THREADS, len(usable_cores()))


def quiet_cores(cores: list[int], threads: int) -> list[int]:
    """``threads`` of ``cores``, last ones first, no two of one physical core if possible."""
    firsts: dict[str, int] = {}
    for core in sorted(cores, reverse=True):
        firsts.setdefault(_physical(core), core)
    apart = sorted(firsts.values(), reverse=True)
    rest = [core for core in sorted(cores, reverse=True) if core not in apart]
    return sorted((apart + rest)[:threads])


def _physical(core: int) -> str:
    """A name that a core shares with its hyper-threads; its own where that is not known."""
    try:
        return Path(_SIBLINGS.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return str(core)
