"""What a search found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nas.search.constraints import Limits
from nas.search.front import Front, Point
from supernet.architecture import Architecture
from supernet.errors import NasError


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A scored architecture.

    Args:
        architecture: the sub-network.
        latency_ms: predicted on the target.
        score: on the validation data, before it is developed.
        smoothed_score: the score predictor's expectation, which weighs this score against those
            of similar architectures.
        within_limits: whether it keeps to all limits of the search.
    """

    architecture: Architecture
    latency_ms: float
    score: float
    smoothed_score: float
    within_limits: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture.to_dict(),
            "latency_ms": self.latency_ms,
            "score": self.score,
            "smoothed_score": self.smoothed_score,
            "within_limits": self.within_limits,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Evaluation:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**data, "architecture": Architecture.from_dict(data["architecture"])})


@dataclass(frozen=True, slots=True)
class Optimum:
    """The optimum of the predicted problem: the highest expected score within the limits.

    Args:
        architecture: of ``considered`` the one that is expected to score highest.
        latency_ms: predicted.
        expected_score: the score predictor's, after the search.
        considered: architectures within the limits that both predictors were asked about.
        proven: whether these are all there are in the space.
    """

    architecture: Architecture
    latency_ms: float
    expected_score: float
    considered: int
    proven: bool

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture.to_dict(),
            "latency_ms": self.latency_ms,
            "expected_score": self.expected_score,
            "considered": self.considered,
            "proven": self.proven,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Optimum:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**data, "architecture": Architecture.from_dict(data["architecture"])})


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer of a search for one of its goals.

    Args:
        limits: what was asked.
        best: the evaluation to develop: within the limits, the highest smoothed score. Smoothed
            scores that agree to four decimals are ties, which the lower latency wins.
        front: over scores that were measured, at any latency, within the caps.
        evaluations: everything that is known: what the search began with, in an order of its own,
            then what it added, oldest first.
        scored: how many of them this search asked for.
        newly_scored: how many of those were not in the cache before this run.
        score_noise: standard deviation of a score by chance, as the predictor estimates it.
        optimum: of the predicted problem.
        failed: architectures that could not be scored, and why.
    """

    limits: Limits
    best: Evaluation
    front: Front
    evaluations: tuple[Evaluation, ...]
    scored: int
    newly_scored: int
    score_noise: float
    optimum: Optimum
    failed: tuple[tuple[Architecture, str], ...] = ()

    def best_within(self, latency_ms: float) -> Evaluation | None:
        """The next to try when the best has measured slower than predicted.

        Args:
            latency_ms: upper limit of the predicted latency; other limits stay as they are.

        Returns:
            By the rule of ``best``, or None when nothing scored is that fast.
        """
        return best_of(
            e for e in self.evaluations if e.within_limits and e.latency_ms <= latency_ms
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "limits": self.limits.to_dict(),
                "best": self.best.to_dict(),
                "front": [point.to_dict() for point in self.front],
                "evaluations": [evaluation.to_dict() for evaluation in self.evaluations],
                "scored": self.scored,
                "newly_scored": self.newly_scored,
                "score_noise": self.score_noise,
                "optimum": self.optimum.to_dict(),
                "failed": [[a.to_dict(), reason] for a, reason in self.failed],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> SearchResult:
        """The inverse of :meth:`to_json`.

        Raises:
            NasError: not JSON, or not a search result.
        """
        try:
            data = json.loads(text)
            return cls(
                limits=Limits(**data["limits"]),
                best=Evaluation.from_dict(data["best"]),
                front=Front(tuple(map(Point.from_dict, data["front"]))),
                evaluations=tuple(map(Evaluation.from_dict, data["evaluations"])),
                scored=data["scored"],
                newly_scored=data["newly_scored"],
                score_noise=data["score_noise"],
                optimum=Optimum.from_dict(data["optimum"]),
                failed=tuple((Architecture.from_dict(a), str(why)) for a, why in data["failed"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise NasError(f"not a search result: {error!r}") from error


def best_of(evaluations: Iterable[Evaluation]) -> Evaluation | None:
    """The highest smoothed score to four decimals; then the lower latency, the fewer parameters."""
    return max(
        evaluations,
        key=lambda e: (
            round(e.smoothed_score, 4),
            -e.latency_ms,
            -e.architecture.parameters(),
            e.architecture.to_json(),
        ),
        default=None,
    )
