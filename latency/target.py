"""Target, Latency and Budget: where a model runs, how long it takes, and how long it may take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Self

from supernet.errors import NasError, check_number

DEVICES = ("cpu", "cuda")
RUNTIMES = ("onnxruntime", "torch-eager", "torch-compile", "torch-cuda-graphs")
DTYPES = ("float32", "float16", "bfloat16", "int8")
PERCENTILES = (50, 95)

_TORCH_CPU = ("float32",)
_TORCH_CUDA = ("float32", "float16", "bfloat16")
_SERVED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("cpu", "onnxruntime"): ("float32", "int8"),
    ("cpu", "torch-eager"): _TORCH_CPU,
    ("cpu", "torch-compile"): _TORCH_CPU,
    ("cuda", "onnxruntime"): ("float32",),
    ("cuda", "torch-eager"): _TORCH_CUDA,
    ("cuda", "torch-compile"): _TORCH_CUDA,
    ("cuda", "torch-cuda-graphs"): _TORCH_CUDA,
}
"""The accepted number types of each runtime on each device."""

MOST: Mapping[str, int] = {"threads": 1024, "batch_size": 4096, "sequence_length": 8192}
"""The largest accepted values. A larger one is a slip, and would exhaust a device's memory."""

_MOST_MEASURED = 8  # lengths of a mix that are measured
_SHARES_ADD_UP = 1e-9  # accepted difference of the shares' sum from 1

_BUDGET = re.compile(r"\s*(?P<value>[0-9.]+)\s*(?P<unit>ms|x)\s*(?:@\s*p(?P<percentile>\d+)\s*)?")


class Workload(NamedTuple):
    """The input of a call: number of sequences, and tokens in each, padding included."""

    batch_size: int
    sequence_length: int

    def __str__(self) -> str:
        return f"batch {self.batch_size}, sequence {self.sequence_length}"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Everything a latency depends on besides the architecture.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
        runtime: ``"onnxruntime"``, ``"torch-eager"``, ``"torch-compile"``, or
            ``"torch-cuda-graphs"`` (on ``"cuda"`` only).
        threads: worker threads of the runtime on the CPU.
        dtype: ``"float32"``; ``"int8"`` for ``"onnxruntime"`` on the CPU (weights are quantized
            beforehand, activations in each call); ``"float16"`` and ``"bfloat16"`` for PyTorch on
            ``"cuda"``.
        batch_size: sequences in a call.
        sequence_length: tokens in a sequence, padding included.
        lengths: pairs of tokens and share of the texts, ascending by tokens. A batch is padded to
            its longest text, and the latency is the expected one. The last length is
            ``sequence_length``. Empty: every sequence has ``sequence_length`` tokens.

    Raises:
        NasError: an unknown name, an unsupported combination, or a count below 1 or above
            :data:`MOST`.
    """

    device: str = "cpu"
    runtime: str = "onnxruntime"
    threads: int
    dtype: str = "float32"
    batch_size: int
    sequence_length: int
    lengths: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        for name, accepted in (("device", DEVICES), ("runtime", RUNTIMES), ("dtype", DTYPES)):
            value = getattr(self, name)
            if value not in accepted:
                raise NasError(
                    f"target: {name} must be one of {', '.join(accepted)}, not {value!r}"
                )
        served = _SERVED.get((self.device, self.runtime), ())
        if self.dtype not in served:
            offered = f"offers {', '.join(served)}" if served else "is not offered"
            raise NasError(
                f"target: runtime {self.runtime} on {self.device} {offered}, not {self.dtype}"
            )
        for name, most in MOST.items():
            check_number(f"target: {name}", getattr(self, name), 1, most, whole=True)
        self._check_lengths()

    def _check_lengths(self) -> None:
        for length, share in self.lengths:
            check_number(
                "target: lengths: a length", length, 1, MOST["sequence_length"], whole=True
            )
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not number or not 0 < share <= 1:
                raise NasError(
                    f"target: lengths: the share of {length} tokens must be above 0 and at most 1, "
                    f"not {share!r}"
                )
        if not self.lengths:
            return
        tokens = [length for length, _ in self.lengths]
        if tokens != sorted(set(tokens)) or tokens[-1] != self.sequence_length:
            raise NasError(
                f"target: lengths must ascend to sequence_length {self.sequence_length}, "
                f"not {tokens}"
            )
        total = math.fsum(share for _, share in self.lengths)
        if abs(total - 1) > _SHARES_ADD_UP:
            raise NasError(f"target: the shares of lengths must add up to 1, not {total:g}")

    @property
    def workload(self) -> Workload:
        """The workload of the longest texts."""
        return Workload(self.batch_size, self.sequence_length)

    @property
    def first_token_last_layer(self) -> bool:
        """Whether the runtime computes the last layer for the first token alone."""
        return self.runtime == "onnxruntime"

    def of(self, workload: Workload) -> Self:
        """This device and runtime with another workload of a single length."""
        size, length = workload
        return replace(self, batch_size=size, sequence_length=length, lengths=())

    def workloads(self) -> tuple[tuple[Self, float], ...]:
        """The targets of a single length that make up this mix, and the share of calls of each.

        A batch of B texts is padded to its longest. So batches of length l have the share
        F(l)^B - F(l')^B, where F are the cumulative shares of the texts and l' is the next shorter
        length.

        >>> mix = Target(threads=1, batch_size=2, sequence_length=64,
        ...     lengths=((32, 0.5), (64, 0.5)))
        >>> [(one.sequence_length, share) for one, share in mix.workloads()]
        [(32, 0.25), (64, 0.75)]
        """
        if not self.lengths:
            return ((self, 1.0),)
        found, below, total = [], 0.0, 0.0
        for length, share in self.lengths:
            total += share
            upto = 1.0 if length == self.sequence_length else total**self.batch_size
            found.append((replace(self, sequence_length=length, lengths=()), upto - below))
            below = upto
        return tuple(found)

    def grid(self) -> tuple[Workload, ...]:
        """The workloads that a profile of this target measures: one, or one for each length.

        >>> Target(threads=1, batch_size=2, sequence_length=64).grid()
        (Workload(batch_size=2, sequence_length=64),)
        """
        lengths = {tokens for tokens, _ in self.lengths[:1] + self.coarse().lengths}
        sequences = sorted(lengths) or [self.sequence_length]
        return tuple(Workload(self.batch_size, tokens) for tokens in sequences)

    def coarse(self) -> Self:
        """This target with at most eight lengths, so that each can be measured.

        If there are more, eight are chosen evenly by rank, and each text counts as one of the next
        longer of them. So a measured latency is rather too high than too low.
        """
        if len(self.lengths) <= _MOST_MEASURED:
            return self
        last = len(self.lengths) - 1
        ends = [round((n + 1) * last / _MOST_MEASURED) for n in range(_MOST_MEASURED)]
        begins = [0, *(end + 1 for end in ends[:-1])]
        return replace(
            self,
            lengths=tuple(
                (self.lengths[end][0], math.fsum(s for _, s in self.lengths[begin : end + 1]))
                for begin, end in zip(begins, ends, strict=True)
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        lengths = data.pop("lengths")
        return (
            data | {"lengths": {str(tokens): share for tokens, share in lengths}}
            if lengths
            else data
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; keys with a default may be left out.

        ``lengths`` is a mapping from tokens to shares or counts; shares need not add up to 1. The
        default of ``sequence_length`` is then the longest.

        Raises:
            NasError: not a mapping, an unknown key, a missing one, or a value out of range.
        """
        if not isinstance(data, Mapping):
            raise NasError(f"target must be a mapping, not {data!r}")
        names = [field.name for field in fields(cls)]
        for key in data:
            if key not in names:
                raise NasError(f"target: unknown key {key!r}; accepted are {', '.join(names)}")
        if data.get("lengths") not in (None, {}):
            lengths = _lengths(data["lengths"])
            data = {"sequence_length": lengths[-1][0], **data, "lengths": lengths}
        else:
            data = {name: value for name, value in data.items() if name != "lengths"}
        for name in MOST:
            if name not in data:
                raise NasError(f"target: {name} is missing")
        return cls(**data)

    def __str__(self) -> str:
        """``cpu onnxruntime float32, 2 threads, batch 1, sequence 64``."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        mixed = f"{self.lengths[0][0]} to " if len(self.lengths) > 1 else ""
        return (
            f"{self.device} {self.runtime} {self.dtype}, {threads}, "
            f"batch {self.batch_size}, sequence {mixed}{self.sequence_length}"
        )


@dataclass(frozen=True)
class Latency:
    """Times of one callable on one target.

    Args:
        p50_ms, p95_ms: percentiles of the samples, as the clock showed them.
        minimum_ms: the fastest sample.
        steady_ms: the median with the machine's drift divided out (:mod:`latency.timing`). It is
            the most repeatable statistic, and predictors are fitted to it.
        samples_ms: every accepted sample, in the order taken.
    """

    p50_ms: float
    p95_ms: float
    minimum_ms: float
    steady_ms: float
    samples_ms: tuple[float, ...]

    @classmethod
    def of(cls, samples_ms: Sequence[float], steady_ms: float | None = None) -> Self:
        """Statistics of ``samples_ms``; ``steady_ms`` defaults to their median.

        Raises:
            NasError: no samples.
        """
        if not samples_ms:
            raise NasError("a latency needs at least one sample")
        ordered = sorted(samples_ms)
        return cls(
            p50_ms=_percentile(ordered, 50),
            p95_ms=_percentile(ordered, 95),
            minimum_ms=ordered[0],
            steady_ms=_percentile(ordered, 50) if steady_ms is None else steady_ms,
            samples_ms=tuple(samples_ms),
        )

    @classmethod
    def expected(cls, latencies: Sequence[Self], shares: Sequence[float]) -> Self:
        """The latency of a mix of calls: every statistic is the mean, weighted by ``shares``."""

        def mean(values: Sequence[float]) -> float:
            return math.fsum(v * s for v, s in zip(values, shares, strict=True))

        return cls(
            p50_ms=mean([one.p50_ms for one in latencies]),
            p95_ms=mean([one.p95_ms for one in latencies]),
            minimum_ms=mean([one.minimum_ms for one in latencies]),
            steady_ms=mean([one.steady_ms for one in latencies]),
            samples_ms=tuple(ms for one in latencies for ms in one.samples_ms),
        )

    @property
    def p95_at_pace_ms(self) -> float:
        """The p95 at the pace of ``steady_ms``."""
        return self.p95_ms * self.steady_ms / self.p50_ms

    def at(self, percentile: int) -> float:
        """Milliseconds at percentile 50 or 95."""
        _check_percentile(percentile)
        return self.p50_ms if percentile == 50 else self.p95_ms


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on latency: milliseconds, or a speed-up over the teacher on the same target.

    Args:
        milliseconds: the limit, or None where ``speedup`` is given.
        speedup: the teacher's latency over the model's, or None where ``milliseconds`` is given.
        percentile: the percentile that the limit applies to, 50 or 95.

    Raises:
        NasError: both or neither given, a value that is not positive, or another percentile.

    >>> Budget.parse("5ms")
    Budget(milliseconds=5.0, speedup=None, percentile=50)
    >>> Budget.parse("4x").limit_ms(teacher_ms=20.0)
    5.0
    """

    milliseconds: float | None = None
    speedup: float | None = None
    percentile: int = 50

    def __post_init__(self) -> None:
        if (self.milliseconds is None) == (self.speedup is None):
            raise NasError("budget: give either milliseconds or a speedup, not both or neither")
        value = self.speedup if self.milliseconds is None else self.milliseconds
        if value is None or not math.isfinite(value) or value <= 0:
            raise NasError(f"budget must be a positive number, not {value!r}")
        _check_percentile(self.percentile)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"5ms"``, ``"5ms@p95"``, or ``"4x"`` for a speed-up over the teacher.

        Raises:
            NasError: any other form.
        """
        match = _BUDGET.fullmatch(text)
        try:
            value = float(match["value"]) if match else math.nan
        except ValueError:
            value = math.nan
        if match is None or math.isnan(value):
            raise NasError(
                f"budget {text!r} is not understood; write milliseconds ('5ms', '5ms@p95') "
                "or a speed-up over the teacher ('4x')"
            )
        percentile = int(match["percentile"] or 50)
        if match["unit"] == "ms":
            return cls(milliseconds=value, percentile=percentile)
        return cls(speedup=value, percentile=percentile)

    def limit_ms(self, teacher_ms: float | None = None) -> float:
        """The limit in milliseconds.

        Args:
            teacher_ms: the teacher's latency at the percentile, which a speed-up needs.

        Raises:
            NasError: a speed-up without the teacher's latency.
        """
        if self.milliseconds is not None:
            return self.milliseconds
        if teacher_ms is None or self.speedup is None:
            raise NasError(f"budget {self} needs the teacher's latency on the target")
        return teacher_ms / self.speedup

    def __str__(self) -> str:
        limit = f"{self.speedup:g}x" if self.milliseconds is None else f"{self.milliseconds:g}ms"
        return limit if self.percentile == 50 else f"{limit}@p{self.percentile}"


def _lengths(given: object) -> tuple[tuple[int, float], ...]:
    """Lengths in ascending order with their shares, from a mapping to counts or shares."""
    wrong = NasError(
        f"target: lengths must map tokens to shares, such as {{32: 0.8, 64: 0.2}}, not {given!r}"
    )
    if not isinstance(given, Mapping) or any(isinstance(one, bool | str) for one in given.values()):
        raise wrong
    try:
        counts = sorted((int(tokens), float(count)) for tokens, count in given.items())
        counts = [(tokens, count) for tokens, count in counts if count != 0]
        total = math.fsum(count for _, count in counts)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error
    if not math.isfinite(total) or total <= 0:
        raise wrong
    if abs(total - 1) <= _SHARES_ADD_UP:
        return tuple(counts)  # shares already, as to_dict wrote them
    return tuple((tokens, count / total) for tokens, count in counts)


def _percentile(ordered: Sequence[float], percentile: float) -> float:
    """Linear interpolation between closest ranks, as ``numpy.percentile``."""
    rank = (len(ordered) - 1) * percentile / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (rank - below) * (ordered[above] - ordered[below])


def _check_percentile(percentile: int) -> None:
    if percentile not in PERCENTILES:
        raise NasError(f"percentile must be one of {PERCENTILES}, not {percentile!r}")
