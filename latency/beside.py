"""Times whole models side by side, such as candidates beside their teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from latency.affinity import pinned
from latency.profiler import reference_calls
from latency.runtimes import Model, bound, runtime_of, workload
from latency.target import Latency, Target
from latency.timing import Progress, Protocol, measure
from supernet.architecture import Architecture, EncoderShape

VERIFY = Protocol(rounds=40, block_ms=10.0)
"""The protocol for models timed side by side: about a second each."""


def time_beside(
    models: Sequence[Architecture | Path],
    target: Target,
    shape: EncoderShape,
    *,
    rounds: int | None = None,
    progress: Progress | None = None,
) -> list[Latency]:
    """Build or load models here, and time them side by side.

    Args:
        models: architectures, which get random weights because weights do not matter for time; and
            exported models that :meth:`latency.runtimes.Runtime.load` accepts.
        shape: vocabulary, positions, labels and activation of the models and their inputs.
        rounds: timed blocks of each model; None takes those of :data:`VERIFY`.

    Raises:
        NasError: a model that does not load, or the target's runtime or device is not here.
    """
    runtime = runtime_of(target)
    with held(target):
        ready = [
            runtime.load(one, target)
            if isinstance(one, Path)
            else runtime.model(one, target, shape=shape)
            for one in models
        ]
    return time_models(ready, target, shape, rounds=rounds, progress=progress)


@contextmanager
def held(target: Target) -> Iterator[None]:
    """Within, models are built and measured on the target's threads and cores."""
    with runtime_of(target).threads(target), pinned(target.threads):
        yield


def time_models(
    models: Sequence[Model],
    target: Target,
    shape: EncoderShape,
    *,
    rounds: int | None = None,
    progress: Progress | None = None,
) -> list[Latency]:
    """Time models side by side, with their blocks interleaved.

    For a mix of lengths the result is the expected latency (:meth:`latency.target.Target.coarse`).

    Args:
        rounds: timed blocks of each model; None takes those of :data:`VERIFY`.
    """
    runtime = runtime_of(target)
    workloads = target.coarse().workloads()
    calls = [bound(model, workload(one, shape)) for model in models for one, _ in workloads]
    with held(target):
        latencies = measure(
            calls,
            reference=reference_calls(runtime, target, shape),
            protocol=_protocol(rounds),
            progress=progress,
        )
    shares = [share for _, share in workloads]
    count = len(workloads)
    return [
        Latency.expected(latencies[start : start + count], shares)
        for start in range(0, len(latencies), count)
    ]


def _protocol(rounds: int | None) -> Protocol:
    if rounds is None:
        return VERIFY
    return replace(VERIFY, rounds=rounds, extra_rounds=rounds // 4)
