"""How busy a machine is with other things than this process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Usage:
    """Processor time so far, in seconds; compare two readings.

    Args:
        all_s: of all cores together, idle time included.
        busy_s: of all cores together, in whatever process; time that a hypervisor took counts.
        own_s: of this process, all its threads, and those of its children that have ended.
    """

    all_s: float
    busy_s: float
    own_s: float

    @classmethod
    def now(cls) -> Usage | None:
        """The machine's counters; None where the operating system does not show them."""
        try:
            fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        ticks = [int(field) / os.sysconf("SC_CLK_TCK") for field in fields]
        idle = ticks[3] + ticks[4]
        own = os.times()
        return cls(sum(ticks), sum(ticks) - idle, sum(own[:4]))


def others_share(before: Usage | None, after: Usage | None) -> float:
    """Of all cores' time between two readings, what others than this process used, 0 to 1."""
    if before is None or after is None or after.all_s <= before.all_s:
        return 0.0
    others = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return min(1.0, max(0.0, others / (after.all_s - before.all_s)))
