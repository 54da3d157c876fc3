"""The Pareto front: architectures that nothing beats in both latency and score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.architecture import Architecture
from supernet.errors import NasError


def non_dominated(latency_ms: ArrayLike, score: ArrayLike) -> NDArray[np.intp]:
    """Rows that no other row beats: less latency is better, more score is better.

    Args:
        latency_ms: (N,)
        score: (N,)

    Returns:
        (M,) rows in ascending latency, hence ascending score. Of rows equal in both, the first.

    Example:
        >>> non_dominated([1.0, 2.0, 3.0, 2.0], [0.5, 0.8, 0.7, 0.6])
        array([0, 1])
    """
    latency, value = np.asarray(latency_ms, dtype=float), np.asarray(score, dtype=float)
    order = np.lexsort((-value, latency))  # stable: among equals the first given leads
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], value[order])))[:-1]
    return order[value[order] > best_before]


@dataclass(frozen=True, slots=True)
class Point:
    """One architecture with its latency and its score."""

    architecture: Architecture
    latency_ms: float
    score: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture.to_dict(),
            "latency_ms": self.latency_ms,
            "score": self.score,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Point:
        """The inverse of :meth:`to_dict`.

        Raises:
            NasError: a key missing or unknown, or a value that is no number.
        """
        if not isinstance(data, Mapping) or set(data) != {"architecture", "latency_ms", "score"}:
            raise NasError(
                f"a point needs exactly architecture, latency_ms and score, not {data!r}"
            )
        for name in ("latency_ms", "score"):
            if not isinstance(data[name], int | float):
                raise NasError(f"{name} must be a number, not {data[name]!r}")
        architecture = Architecture.from_dict(data["architecture"])
        return cls(architecture, float(data["latency_ms"]), float(data["score"]))


@dataclass(frozen=True, slots=True)
class Front:
    """Non-dominated points, in ascending latency and score.

    Raises:
        NasError: the points are not such a front; :meth:`of` makes one from any points.
    """

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        for before, after in zip(self.points, self.points[1:], strict=False):
            if not (before.latency_ms < after.latency_ms and before.score < after.score):
                raise NasError(
                    f"front: {after.architecture} must have more latency and more score than "
                    f"{before.architecture} before it"
                )

    @classmethod
    def of(cls, points: Iterable[Point]) -> Front:
        """The front of any points, with one architecture for each latency and score."""
        given = tuple(points)
        rows = non_dominated([p.latency_ms for p in given], [p.score for p in given])
        return cls(tuple(given[row] for row in rows))

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)
