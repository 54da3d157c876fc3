"""Requests to a device elsewhere, and its answers, as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

from latency.target import Latency, Target
from supernet.architecture import Architecture, EncoderShape
from supernet.errors import NasError
from supernet.space import SearchSpace


@dataclass(frozen=True, kw_only=True)
class ProfileAsked:
    """A request to measure a profile; see :func:`latency.profiler.profile_device`."""

    target: Target
    space: SearchSpace
    shape: EncoderShape
    seconds: float
    seed: int
    count_disturbed: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.target.to_dict(),
            "space": self.space.to_dict(),
            "shape": asdict(self.shape),
            "seconds": self.seconds,
            "seed": self.seed,
            "count_disturbed": self.count_disturbed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: something else.
        """
        with _understood("the task's request is"):
            return cls(
                target=Target.from_dict(data["target"]),
                space=SearchSpace.from_dict(data["space"]),
                shape=EncoderShape(**data["shape"]),
                seconds=float(data["seconds"]),
                seed=int(data["seed"]),
                count_disturbed=bool(data["count_disturbed"]),
            )


@dataclass(frozen=True)
class ModelFile:
    """An exported model that the device fetches.

    Args:
        name: its name among the task's files.
        sha256: its checksum, hexadecimal.
    """

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TimeAsked:
    """A request to time models side by side; see :func:`latency.beside.time_beside`."""

    target: Target
    shape: EncoderShape
    models: tuple[Architecture | ModelFile, ...]
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "target": self.target.to_dict(),
            "shape": asdict(self.shape),
            "models": [
                asdict(one) if isinstance(one, ModelFile) else {"architecture": one.to_dict()}
                for one in self.models
            ],
            "rounds": self.rounds,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: something else.
        """
        with _understood("the task's request is"):
            return cls(
                target=Target.from_dict(data["target"]),
                shape=EncoderShape(**data["shape"]),
                models=tuple(
                    Architecture.from_dict(one["architecture"])
                    if "architecture" in one
                    else ModelFile(**one)
                    for one in data["models"]
                ),
                rounds=int(data["rounds"]),
            )


def latencies_to_dicts(latencies: Sequence[Latency]) -> list[dict[str, Any]]:
    """The answer of a device to :class:`TimeAsked`."""
    return [asdict(one) | {"samples_ms": list(one.samples_ms)} for one in latencies]


def latencies_from_dicts(data: Any, count: int) -> list[Latency]:
    """The inverse of :func:`latencies_to_dicts`.

    Args:
        count: number of models in the request.

    Raises:
        NasError: something else.
    """
    with _understood("the latencies are"):
        found = [Latency(**one | {"samples_ms": tuple(one["samples_ms"])}) for one in data]
        values = [
            ms
            for one in found
            for ms in (one.p50_ms, one.p95_ms, one.minimum_ms, one.steady_ms, *one.samples_ms)
        ]
        sound = all(isinstance(ms, int | float) and 0 < ms < 1e7 for ms in values)
    if len(found) != count or not sound:
        raise NasError(
            f"result: {count} latencies are needed, of milliseconds above 0 and below 1e7"
        )
    return found


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn what reading of wrong data raises into one clear line."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise NasError(f"{what} not understood: {error!r}") from error
