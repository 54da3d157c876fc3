"""What a profile is worth that was taken while something else burned all cores for half of it.

    python benchmarks/latency_under_load.py --threads 1

Profiles the device twice for as long: undisturbed, and with a process on every core for the first
half. The latter must be refused, or predict held-out architectures, timed undisturbed, with at most
1.5 times the error of the former.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from time import sleep

import numpy as np
from latency_accuracy import SHAPE, Timer, covered_spaces, drawn
from result_files import origin, write_result
from rich.console import Console

from latency.accuracy import accuracy
from latency.affinity import pinned
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from latency.profiler import profile_device
from latency.target import Target
from latency.timing import Record, Usual, usual_reference
from supernet.architecture import Architecture
from supernet.errors import NasError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--time", type=float, default=90.0, help="seconds for each profile")
    parser.add_argument("--models", type=int, default=48, help="held-out architectures")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    target = Target(threads=arguments.threads, batch_size=1, sequence_length=64)
    spaces = covered_spaces()
    console = Console()
    profiles = {}
    for name, burning_s in (("undisturbed", 0.0), ("half under load", arguments.time / 2)):
        burner = threading.Thread(target=burn, args=(burning_s,))
        burner.start()
        with console.status(f"profile, {name}"):
            profiles[name] = profile_device(
                target, spaces, time_budget_s=arguments.time, seed=0, shape=SHAPE
            )
        burner.join()
    held_out = drawn(spaces, arguments.models, np.random.default_rng([0, 2]))
    timer = Timer(target)
    with timer.runtime.threads(target), pinned(target.threads):
        records = timer.all(held_out, "held-out models")
    usual = usual_reference(records)
    result = origin(target) | {
        "target": target.to_dict(),
        "seed": 0,
        "profiles": {
            name: outcome(profile, held_out, records, usual) for name, profile in profiles.items()
        },
    }
    console.print(result["profiles"])
    write_result(arguments.output / "latency_under_load.json", result)


def burn(seconds: float) -> None:
    """Keep every core busy for so long."""
    if not seconds:
        return
    workers = [
        multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
        for _ in range(os.cpu_count() or 1)
    ]
    for worker in workers:
        worker.start()
    sleep(seconds)
    for worker in workers:
        worker.kill()


def spin() -> None:
    while True:
        pass


def outcome(
    profile: Profile, held_out: Sequence[Architecture], records: Sequence[Record], usual: Usual
) -> dict[str, object]:
    """What a profile says of itself, and its error on held-out models if it is not refused."""
    told: dict[str, object] = {
        "warnings": profile.warnings(),
        "unsteady_share": profile.unsteady_share,
        "measurements": len(profile.measurements),
        "seconds": profile.seconds,
    }
    try:
        predictor = LatencyPredictor(profile).fit()
    except NasError as error:
        return told | {"refused": str(error)}
    pace = profile.pace_ms / usual.pace_ms
    measured = np.array([pace * one.latency(usual).steady_ms for one in records])
    return told | {"errors": accuracy(predictor.predict(held_out), measured).to_dict()}


if __name__ == "__main__":
    main()
