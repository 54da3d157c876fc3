"""Target, Latency and Budget: what is timed on what, the outcome, and the limit a user sets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from supernet.errors import NasError

DEVICES = ("cpu",)
RUNTIMES = ("onnxruntime", "torch-eager")
DTYPES = ("float32",)
PERCENTILES = (50, 95)

_BUDGET = re.compile(r"\s*(?P<value>[0-9.]+)\s*(?P<unit>ms|x)\s*(?:@\s*p(?P<percentile>\d+)\s*)?")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Everything a latency depends on besides the architecture.

    Args:
        device: ``"cpu"``.
        runtime: ``"onnxruntime"`` or ``"torch-eager"``.
        threads: worker threads of the runtime.
        dtype: ``"float32"``.
        batch_size: sequences in a call.
        sequence_length: tokens in a sequence, padding included.

    Raises:
        NasError: a name that is not offered, or a count below 1.
    """

    device: str = "cpu"
    runtime: str = "onnxruntime"
    threads: int
    dtype: str = "float32"
    batch_size: int
    sequence_length: int

    def __post_init__(self) -> None:
        for name, accepted in (("device", DEVICES), ("runtime", RUNTIMES), ("dtype", DTYPES)):
            value = getattr(self, name)
            if value not in accepted:
                raise NasError(
                    f"target: {name} must be one of {', '.join(accepted)}, not {value!r}"
                )
        for name in ("threads", "batch_size", "sequence_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise NasError(
                    f"target: {name} must be a whole number of at least 1, not {value!r}"
                )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; keys with a default may be left out.

        Raises:
            NasError: not a mapping, an unknown key, a missing one, or a value out of range.
        """
        if not isinstance(data, Mapping):
            raise NasError(f"target must be a mapping, not {data!r}")
        names = [field.name for field in fields(cls)]
        for key in data:
            if key not in names:
                raise NasError(f"target: unknown key {key!r}; accepted are {', '.join(names)}")
        for name in ("threads", "batch_size", "sequence_length"):
            if name not in data:
                raise NasError(f"target: {name} is missing")
        return cls(**data)

    def __str__(self) -> str:
        """``cpu onnxruntime float32, 2 threads, batch 1, sequence 64``."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"{self.device} {self.runtime} {self.dtype}, {threads}, "
            f"batch {self.batch_size}, sequence {self.sequence_length}"
        )


@dataclass(frozen=True)
class Latency:
    """What was measured of one callable on one target.

    Args:
        p50_ms, p95_ms: percentiles of the samples, as the clock showed them.
        minimum_ms: the fastest sample.
        low_ms: the robust low statistic with drift divided out (:mod:`latency.timing`): the
            most repeatable of them, used for fitting and comparing, not for promises.
        samples_ms: every accepted sample, in the order taken.
    """

    p50_ms: float
    p95_ms: float
    minimum_ms: float
    low_ms: float
    samples_ms: tuple[float, ...]

    @classmethod
    def of(cls, samples_ms: Sequence[float], low_ms: float | None = None) -> Self:
        """Statistics of ``samples_ms``; ``low_ms`` defaults to the fastest sample.

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
            low_ms=ordered[0] if low_ms is None else low_ms,
            samples_ms=tuple(samples_ms),
        )

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
        percentile: which percentile is limited, 50 or 95.

    Raises:
        NasError: both or neither given, a value that is not positive, another percentile.

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
        """``"5ms"``, ``"4x"`` (a speed-up over the teacher), ``"5ms@p95"``.

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
        """The limit in milliseconds; a speed-up needs the teacher's latency at the percentile.

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


def _percentile(ordered: Sequence[float], percentile: float) -> float:
    """Linear interpolation between closest ranks, as ``numpy.percentile``."""
    rank = (len(ordered) - 1) * percentile / 100
    below = math.floor(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (rank - below) * (ordered[above] - ordered[below])


def _check_percentile(percentile: int) -> None:
    if percentile not in PERCENTILES:
        raise NasError(f"percentile must be one of {PERCENTILES}, not {percentile!r}")
