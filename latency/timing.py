"""The measuring protocol: the only module that reads a clock.

Callables are interleaved, so that a slow minute affects all of them. In each round every callable
runs a short block: calls that settle caches and threads, then timed calls. Before each block a
fixed reference, of one or several kernels, is timed. If it is slower than usual, it is timed again,
for a limited time.

A block is disturbed if the operating system took a core from the process during the block, or if
the reference was slower than usual. A disturbed block is kept in the record, left out of the
statistics, and measured again.

Drift remains, mostly of the clock speed. The first kernel of the reference measures it over a whole
round, and it is divided out of the statistic used for fitting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter, perf_counter_ns
from typing import NamedTuple

import numpy as np

from latency.target import Latency
from supernet.errors import NasError

try:
    import resource
except ModuleNotFoundError:  # on Windows, where only the reference shows disturbances
    resource = None  # type: ignore[assignment]

Call = Callable[[], object]
Progress = Callable[[int, int], None]
"""Called with the number of blocks done, and the number of blocks planned."""

_USUAL = 25  # percentile of the reference's times: a quiet machine, but no lucky moment
_BETWEEN_PREEMPTIONS_MS = 50.0  # even a quiet machine takes a core this often
_DISTURBED = 1.15  # the reference is slow from this many times its usual time
_ENOUGH = 3  # undisturbed blocks that suffice for a median


@dataclass(frozen=True)
class Protocol:
    """How much is measured of each callable.

    Args:
        rounds: undisturbed blocks wanted of each callable.
        extra_rounds: the most rounds in which disturbed blocks are measured again.
        limit_s: seconds after which no further round begins; three rounds are always taken.
        settle_ms: time of the untimed calls before a block, at least one call.
        block_ms: time of a block, at least ``minimum_calls`` calls.
        minimum_calls: the least number of timed calls in a block.
        patience_ms: the most time spent waiting for the reference's usual pace, over all blocks.

    Raises:
        NasError: a count below 1.
    """

    rounds: int = 20
    extra_rounds: int = 10
    limit_s: float = math.inf
    settle_ms: float = 1.0
    block_ms: float = 2.0
    minimum_calls: int = 3
    patience_ms: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("rounds", "minimum_calls"):
            if getattr(self, name) < 1:
                raise NasError(f"protocol: {name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Block:
    """Consecutive calls of one callable.

    Args:
        samples_ms: time of each call.
        reference_ms: time of all the reference's kernels, before the block.
        round_reference_ms: low time of its first kernel over the round, which measures drift.
        preemptions: how often a core was taken from this process during the block.
    """

    samples_ms: tuple[float, ...]
    reference_ms: float
    round_reference_ms: float
    preemptions: int


class Usual(NamedTuple):
    """Times of the reference on the undisturbed machine.

    Args:
        beside_ms: of all its kernels, before a block.
        pace_ms: of its first kernel over a round.
    """

    beside_ms: float
    pace_ms: float


@dataclass(frozen=True)
class Record:
    """Every block measured of one callable, in the order taken."""

    blocks: tuple[Block, ...]

    def quiet(self, usual: Usual) -> tuple[Block, ...]:
        """The undisturbed blocks; if they are too few, the least disturbed quarter.

        The choice does not depend on the callable's own times, or its fastest blocks would make
        the statistics.
        """
        quiet = tuple(b for b in self.blocks if not _disturbed(b, usual))
        enough = max(_ENOUGH, math.ceil(len(self.blocks) / 4))
        if len(quiet) >= enough:
            return quiet
        by_disturbance = sorted(self.blocks, key=lambda b: (b.preemptions, b.reference_ms))
        return tuple(by_disturbance[:enough])

    def is_steady(self, usual: Usual) -> bool:
        """Whether enough blocks are undisturbed to know the callable's latency."""
        quiet = sum(not _disturbed(b, usual) for b in self.blocks)
        return quiet >= min(_ENOUGH, len(self.blocks))

    def latency(self, usual: Usual) -> Latency:
        """Statistics over the quiet blocks."""
        quiet = self.quiet(usual)
        undrifted = [
            ms * usual.pace_ms / block.round_reference_ms
            for block in quiet
            for ms in block.samples_ms
        ]
        samples = [ms for block in quiet for ms in block.samples_ms]
        return Latency.of(samples, float(np.median(undrifted)))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = perf_counter()

    def seconds(self) -> float:
        return perf_counter() - self._start


def now() -> str:
    """Date and time in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def usual_reference(records: Sequence[Record]) -> Usual:
    """The reference on the undisturbed machine, from all blocks measured together."""
    blocks = [block for record in records for block in record.blocks]
    beside = np.percentile([block.reference_ms for block in blocks], _USUAL)
    pace = np.percentile([block.round_reference_ms for block in blocks], _USUAL)
    return Usual(float(beside), float(pace))


def measure(
    calls: Sequence[Call],
    *,
    reference: Sequence[Call] = (),
    protocol: Protocol = Protocol(),
    progress: Progress | None = None,
) -> list[Latency]:
    """Latencies of several callables, measured side by side, in their order.

    Args:
        reference: fixed work of the same kind (same runtime, same threads). The first call measures
            the pace. Empty: a NumPy kernel.

    >>> fast, slow = measure([lambda: sum(range(10)), lambda: sum(range(100_000))])
    >>> fast.p50_ms < slow.p50_ms
    True
    """
    records = record(calls, reference=reference, protocol=protocol, progress=progress)
    if not records:
        return []
    usual = usual_reference(records)
    return [one.latency(usual) for one in records]


def record(
    calls: Sequence[Call],
    *,
    reference: Sequence[Call] = (),
    protocol: Protocol = Protocol(),
    progress: Progress | None = None,
    beside_ms: float = math.inf,
) -> list[Record]:
    """As :func:`measure`, returning every sample.

    Args:
        beside_ms: see :class:`Usual`, if it is known from before.
    """
    reference = reference or [_numpy_kernel()]
    patience = _Patience(protocol.patience_ms, beside_ms)
    taken: list[tuple[Block, ...]] = [() for _ in calls]
    start = perf_counter()
    done = 0
    for index in range(protocol.rounds + protocol.extra_rounds):
        waiting = range(len(calls)) if index < protocol.rounds else _wanting(taken, protocol)
        if not waiting or (index >= 3 and perf_counter() - start > protocol.limit_s):
            break
        blocks = _round(calls, waiting, reference, protocol, patience)
        for which, block in zip(waiting, blocks, strict=True):
            taken[which] += (block,)
        low_ms = float(np.percentile([block.reference_ms for block in blocks], _USUAL))
        patience.beside_ms = min(patience.beside_ms, low_ms)
        done += len(waiting)
        if progress:
            progress(done, max(done, protocol.rounds * len(calls)))
    return [Record(blocks) for blocks in taken]


@dataclass
class _Patience:
    """The time left for waiting until the reference is at its usual pace."""

    left_ms: float
    beside_ms: float

    def readings(self, reference: Sequence[Call]) -> list[float]:
        """Time of each of the reference's kernels, once it is usual or patience has run out."""
        while True:
            samples = [_run(call, 0.0, 3) for call in reference]
            fastest = [min(times) for times in samples]
            if sum(fastest) <= _DISTURBED * self.beside_ms or self.left_ms <= 0:
                return fastest
            self.left_ms -= sum(map(sum, samples))


def _round(
    calls: Sequence[Call],
    waiting: Sequence[int],
    reference: Sequence[Call],
    protocol: Protocol,
    patience: _Patience,
) -> list[Block]:
    """One block of each callable in ``waiting``."""
    readings, blocks, preempted = [], [], []
    for which in waiting:
        for call in reference:
            _run(call, protocol.settle_ms / 2 / len(reference), 1)
        readings.append(patience.readings(reference))
        _run(calls[which], protocol.settle_ms, 1)
        before = _preemptions()
        blocks.append(tuple(_run(calls[which], protocol.block_ms, protocol.minimum_calls)))
        preempted.append(_preemptions() - before)
    drift_ms = round(
        float(np.percentile([reading[0] for reading in readings], 25)), 6
    )  # whole nanoseconds, as samples
    return [
        Block(samples_ms, round(sum(reading), 6), drift_ms, count)
        for samples_ms, reading, count in zip(blocks, readings, preempted, strict=True)
    ]


def _wanting(taken: Sequence[tuple[Block, ...]], protocol: Protocol) -> list[int]:
    """Indices of the callables with fewer undisturbed blocks than rounds."""
    usual = usual_reference([Record(blocks) for blocks in taken])
    return [
        which
        for which, blocks in enumerate(taken)
        if sum(not _disturbed(b, usual) for b in blocks) < protocol.rounds
    ]


def _disturbed(block: Block, usual: Usual) -> bool:
    """Whether the machine did something else. A short block may end before it is preempted."""
    tolerated = sum(block.samples_ms) / _BETWEEN_PREEMPTIONS_MS
    return block.preemptions > tolerated or block.reference_ms > _DISTURBED * usual.beside_ms


def _run(call: Call, at_least_ms: float, at_least_calls: int) -> list[float]:
    """Milliseconds of consecutive calls, until both limits are reached."""
    samples: list[float] = []
    total = 0.0
    while len(samples) < at_least_calls or total < at_least_ms:
        start = perf_counter_ns()
        call()
        samples.append((perf_counter_ns() - start) / 1e6)
        total += samples[-1]
    return samples


def _preemptions() -> int:
    """Involuntary context switches of this process so far; 0 where they are not counted."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


def _numpy_kernel() -> Call:
    """About 0.1 ms of arithmetic on one core, with data that stays in its cache."""
    values = np.linspace(0.0, 1.0, 1 << 14)
    out = np.empty_like(values)
    return lambda: np.exp(values, out=out)
