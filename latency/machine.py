"""How busy the machine is with other processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Usage:
    """Processor time so far, in seconds. The difference of two readings tells the usage.

    Args:
        all_s: time of all cores, idle time included.
        busy_s: time of all cores in any process, time taken by a hypervisor included.
        own_s: time of this process, its threads, and its children that have ended.
    """

    all_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls) -> Usage | None:
        """The machine's counters; None if the operating system does not show them."""
        try:
            fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
        idle = ticks[3] + ticks[4]
        own = os.times()
        return cls(sum(ticks), sum(ticks) - idle, sum(own[:4]))


def others_share(before: Usage | None, after: Usage | None) -> float:
    """The share of all cores' time that other processes used between two readings, 0 to 1."""
    if before is None or after is None or after.all_s <= before.all_s:
        return 0.0
    others = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return min(1.0, max(0.0, others / (after.all_s - before.all_s)))
