"""The measuring protocol: the only module that reads a clock.

Callables are interleaved, so that a slow minute falls on all of them. In each round every one runs
a short block: calls that settle caches and threads, then timed calls; and beside each block a fixed
reference is timed, of one kernel or several. A block is disturbed where the operating system took a
core from the process meanwhile, or the reference beside it ran slower than usual: it is kept in the
record, left out of the statistics, and measured again. Before a block the reference is waited for
to be at its usual pace, for a while. What drift is left, the clock speed's above all, is that of
the reference's first kernel over a whole round, and is divided out of the statistic used for
fitting.
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
except ModuleNotFoundError:  # not on Windows: there only the reference tells of disturbances
    resource = None  # type: ignore[assignment]

Call = Callable[[], object]
Progress = Callable[[int, int], None]
"""Called with the blocks done and the blocks planned."""

_USUAL = 25  # percentile over all readings of the reference: the quiet machine, not a lucky one
_BETWEEN_PREEMPTIONS_MS = 50.0  # in which a core is taken once on a quiet machine too
_ENOUGH = 3  # undisturbed blocks that tell a median


@dataclass(frozen=True)
class Protocol:
    """How much is measured of each callable.

    Args:
        rounds: undisturbed blocks wanted of each callable.
        extra_rounds: rounds at the most in which disturbed blocks are measured again.
        limit_s: no further round is begun after so many seconds, but three are always taken.
        settle_ms: time spent calling before a block, at least one call.
        block_ms: time of a block, at least ``minimum_calls`` calls.
        minimum_calls: timed calls of a block at the least.
        disturbed_ratio: the reference is slow where it takes more than this many times its
            usual time.
        patience_ms: time spent at most waiting for the reference's usual pace, over all blocks.

    Raises:
        NasError: a count below 1.
    """

    rounds: int = 20
    extra_rounds: int = 10
    limit_s: float = math.inf
    settle_ms: float = 1.0
    block_ms: float = 2.0
    minimum_calls: int = 3
    disturbed_ratio: float = 1.15
    patience_ms: float = 1000.0

    def __post_init__(self) -> None:
        for name in ("rounds", "minimum_calls"):
            if getattr(self, name) < 1:
                raise NasError(f"protocol: {name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Block:
    """Consecutive calls of one callable.

    Args:
        samples_ms: the calls.
        reference_ms: the reference's time beside them, of all its kernels.
        round_reference_ms: its first kernel's low time over the round, a measure of drift.
        preemptions: how often a core was taken from this process meanwhile.
    """

    samples_ms: tuple[float, ...]
    reference_ms: float
    round_reference_ms: float
    preemptions: int


class Usual(NamedTuple):
    """The reference's times on the undisturbed machine.

    Args:
        beside_ms: of all its kernels, beside a block.
        pace_ms: of its first kernel over a round.
    """

    beside_ms: float
    pace_ms: float


@dataclass(frozen=True)
class Record:
    """Every block measured of one callable, in the order taken."""

    blocks: tuple[Block, ...]

    def quiet(self, usual: Usual, disturbed_ratio: float = 1.15) -> tuple[Block, ...]:
        """The undisturbed blocks; where there are too few, the least disturbed quarter.

        What the callable itself took has no say in the choice, or the statistics would be of its
        fastest blocks.

        """
        quiet = tuple(b for b in self.blocks if not _disturbed(b, usual, disturbed_ratio))
        enough = max(_ENOUGH, math.ceil(len(self.blocks) / 4))
        if len(quiet) >= enough:
            return quiet
        by_disturbance = sorted(self.blocks, key=lambda b: (b.preemptions, b.reference_ms))
        return tuple(by_disturbance[:enough])

    def is_steady(self, usual: Usual, disturbed_ratio: float = 1.15) -> bool:
        """Whether enough blocks are undisturbed to tell the callable's latency."""
        quiet = sum(not _disturbed(b, usual, disturbed_ratio) for b in self.blocks)
        return quiet >= min(_ENOUGH, len(self.blocks))

    def latency(self, usual: Usual, disturbed_ratio: float = 1.15) -> Latency:
        """Statistics over the quiet blocks."""
        quiet = self.quiet(usual, disturbed_ratio)
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
        reference: fixed pieces of work like that measured (same runtime, same threads), the first
            as a measure of pace; none takes a NumPy kernel.

    >>> fast, slow = measure([lambda: sum(range(10)), lambda: sum(range(100_000))])
    >>> fast.p50_ms < slow.p50_ms
    True
    """
    records = record(calls, reference=reference, protocol=protocol, progress=progress)
    if not records:
        return []
    usual = usual_reference(records)
    return [one.latency(usual, protocol.disturbed_ratio) for one in records]


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
        beside_ms: see :class:`Usual`, where it is known from before.
    """
    reference = reference or [_numpy_kernel()]
    patience = _Patience(protocol.patience_ms, protocol.disturbed_ratio, beside_ms)
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
    """What waiting is left for the reference to be at its usual pace."""

    left_ms: float
    disturbed_ratio: float
    beside_ms: float

    def readings(self, reference: Sequence[Call]) -> list[float]:
        """The time of each of the reference's kernels, once usual or patience has run out."""
        while True:
            samples = [_run(call, 0.0, 3) for call in reference]
            fastest = [min(times) for times in samples]
            if sum(fastest) <= self.disturbed_ratio * self.beside_ms or self.left_ms <= 0:
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
    """The callables with fewer undisturbed blocks than rounds."""
    usual = usual_reference([Record(blocks) for blocks in taken])
    return [
        which
        for which, blocks in enumerate(taken)
        if sum(not _disturbed(b, usual, protocol.disturbed_ratio) for b in blocks) < protocol.rounds
    ]


def _disturbed(block: Block, usual: Usual, disturbed_ratio: float) -> bool:
    """Whether the machine did something else: a short block is over before it is preempted."""
    tolerated = sum(block.samples_ms) / _BETWEEN_PREEMPTIONS_MS
    return block.preemptions > tolerated or block.reference_ms > disturbed_ratio * usual.beside_ms


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
    """Some 0.1 ms of one core's arithmetic on data that stays in its cache."""
    values = np.linspace(0.0, 1.0, 1 << 14)
    out = np.empty_like(values)
    return lambda: np.exp(values, out=out)
