"""An agent in a process of its own, which loads nothing of the service."""

from __future__ import annotations

import os
import sys

from latency import profiler
from latency.cli import main
from latency.timing import Protocol


def agent_process(folder: str, arguments: list[str]) -> None:
    """``latency agent`` in a process of its own: it measures little, and writes into ``folder``."""
    profiler._PROTOCOL = Protocol(rounds=2, extra_rounds=0, patience_ms=0.0)
    profiler.LEAST_DRAWN = 12
    descriptor = os.open(f"{folder}/agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(descriptor, number)
    sys.argv = ["latency", "agent", *arguments]
    main()
