"""What a search found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nas.search.constraints import Limits, parameters
from nas.search.front import ArchitectureInJson, Point, front_of
from nas.search.goals import Goals
from nas.search.score_predictor import fit_predictor
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
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

    architecture: ArchitectureInJson
    latency_ms: float
    score: float
    smoothed_score: float
    within_limits: bool


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer of a search for one of its goals.

    Args:
        limits: what was asked.
        best: the evaluation to develop: within the limits, the highest smoothed score. Smoothed
            scores that agree to four decimals are ties, which the lower latency wins.
        front: over scores that were measured, at any latency, within the caps; in ascending
            latency and score.
        evaluations: everything that is known: what the search began with, in an order of its own,
            then what it added, oldest first.
        scored: how many of them this search asked for.
        newly_scored: how many of those were not in the cache before this run.
        failed: architectures that could not be scored, and why.
    """

    limits: Limits
    best: Evaluation
    front: tuple[Point, ...]
    evaluations: tuple[Evaluation, ...]
    scored: int
    newly_scored: int
    failed: tuple[tuple[ArchitectureInJson, str], ...] = ()

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

    def to_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        content: dict[str, Any] = _JSON.dump_python(self, mode="json")
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SearchResult:
        """The inverse of :meth:`to_dict`; keys that only earlier versions wrote are passed over.

        Raises:
            NasError: not a search result.
        """
        try:
            return _JSON.validate_python(content)
        except ValidationError as error:
            raise NasError(f"not a search result: {error.errors()[0]['msg']}") from error


_JSON = TypeAdapter(SearchResult)


def results_of(
    scores: Mapping[Architecture, float],
    goals: Goals,
    seed: int,
    *,
    scored: int,
    newly_scored: int,
    failed: tuple[tuple[Architecture, str], ...],
) -> tuple[SearchResult, ...]:
    """The answer for each goal, from the scores of at least one architecture.

    Raises:
        NasError: nothing scored keeps to the limits of a goal.
    """
    tuned = fit_predictor(scores, goals, seed)
    predictor = fit_predictor(scores, goals, seed, like=tuned)
    batch = ArchitectureBatch.of(list(scores))
    smoothed = predictor.expect(batch)
    results = []
    for goal, latencies, usages in zip(goals.each, *goals.measure(batch), strict=True):
        evaluations = tuple(
            Evaluation(architecture, float(ms), score, float(expected), bool(share <= 1))
            for (architecture, score), ms, share, expected in zip(
                scores.items(), latencies, usages, smoothed, strict=True
            )
        )
        best = best_of(evaluation for evaluation in evaluations if evaluation.within_limits)
        if best is None:
            raise NasError(
                f"none of {len(scores)} architectures scored is within {goal.limits.latency_ms:g} "
                "ms: search with more evaluations"
            )
        capped = parameters(batch, goal.shape) <= goal.limits.max_parameters
        front = front_of(
            Point(e.architecture, e.latency_ms, e.score)
            for e, keeps in zip(evaluations, capped, strict=True)
            if keeps
        )
        results.append(
            SearchResult(goal.limits, best, front, evaluations, scored, newly_scored, failed)
        )
    return tuple(results)


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
