"""The Pareto front: architectures that nothing beats in both latency and score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator, PlainSerializer

from supernet.architecture import Architecture


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


ArchitectureInJson = Annotated[
    Architecture,
    PlainSerializer(Architecture.to_dict),
    BeforeValidator(lambda a: a if isinstance(a, Architecture) else Architecture.from_dict(a)),
]
"""An architecture that pydantic writes and reads as :meth:`Architecture.to_dict` does."""


@dataclass(frozen=True, slots=True)
class Point:
    """One architecture with its latency and its score."""

    architecture: ArchitectureInJson
    latency_ms: float
    score: float


def front_of(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points that no other beats, in ascending latency, hence ascending score.

    There is one architecture for each latency and score.
    """
    given = tuple(points)
    rows = non_dominated([p.latency_ms for p in given], [p.score for p in given])
    return tuple(given[row] for row in rows)
