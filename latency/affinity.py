"""Pins threads to cores of their own while latencies are measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency.fingerprint import usable_cores

MOST_THREADS = 4
"""The most threads by default: small models gain little from more."""

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Within, pin this thread and those it starts to as many cores as the target has threads.

    The last cores are taken, because the first serve most interrupts, and no two of one physical
    core if there are enough. Nothing is pinned if the machine has no more cores than threads, or
    the operating system does not support it.

    Returns:
        The logical cores; empty if nothing was pinned.
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
    """The number of cores that this process may use, up to :data:`MOST_THREADS`."""
    return min(MOST_THREADS, len(usable_cores()))


def quiet_cores(cores: list[int], threads: int) -> list[int]:
    """Choose ``threads`` of ``cores``: the last ones, no two of one physical core if possible."""
    firsts: dict[str, int] = {}
    for core in sorted(cores, reverse=True):
        firsts.setdefault(_physical(core), core)
    apart = sorted(firsts.values(), reverse=True)
    rest = [core for core in sorted(cores, reverse=True) if core not in apart]
    return sorted((apart + rest)[:threads])


def _physical(core: int) -> str:
    """A name that all hyper-threads of a core share; the core's own if that is not known."""
    try:
        return Path(_SIBLINGS.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return str(core)
