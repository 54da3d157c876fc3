"""From limits to an architecture: whom to score, and who is best."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.constraints import Limits, parameters
from nas.search.evolution import RegularizedEvolution
from nas.search.front import Front, Point
from nas.search.guided import GuidedEvolution, fit_predictor
from nas.search.pool import Pool, PredictLatency, Region, build_pool
from nas.search.random_search import RandomSearch
from nas.search.result import Evaluation, SearchResult, best_of
from nas.search.score_cache import ScoreCache
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture, EncoderShape
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

Evaluate = Callable[[Sequence[Architecture]], ArrayLike]
"""From N architectures to their validation scores, (N,), with inherited weights."""

"""How many unscored architectures the predicted front is drawn from."""


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """How far a search is.

    Args:
        scored, planned: architectures; a search may end before it has used up its plan.
        best_score: within the limits so far; None before there is one.
    """

    scored: int
    planned: int
    best_score: float | None


def run_search(
    space: SearchSpace,
    predict_latency: PredictLatency,
    evaluate: Evaluate,
    limits: Limits,
    settings: SearchSettings = SearchSettings(),
    *,
    cache: ScoreCache,
    shape: EncoderShape = EncoderShape(),
    progress: Callable[[SearchProgress], None] = lambda _: None,
) -> SearchResult:
    """Find the architecture of highest score within limits.

    A first search scores ``settings.evaluations`` architectures, some spread over all latencies
    and most near the limits; a later one finds their scores in the cache. Then each adds up to
    ``settings.refinement`` near its own limits, the last of them those expected to be best.

    Every choice follows from the settings and from what the cache held when this search first
    began. So a search that was killed goes on as if it had not been, and one that is repeated
    scores nothing and answers the same.

    Args:
        space: what to choose from.
        predict_latency: milliseconds on the target that the limits speak of.
        evaluate: called with batches; the score of one must not depend on the others.
        limits: budget and caps.
        settings: see there.
        cache: scores of the supernet and the data that ``evaluate`` uses.
        shape: of the models whose parameters are limited.
        progress: called after each batch.

    Raises:
        NasError: no architecture keeps to the limits; the message says what would be feasible.
    """
    rng = np.random.default_rng(settings.seed)
    region = Region(predict_latency, limits, shape)
    pool = build_pool(space, region, max_enumerated=settings.max_enumerated, rng=rng)
    most = float(pool.usage[pool.usage <= 1].max())
    region = replace(region, least_usage=settings.near * most)
    searcher = _searcher(space, region, pool, settings)

    begun_with = cache.begin(_search_key(space, region, settings))
    known = {a: score for a, score in begun_with.items() if a in space}
    missing = max(0, settings.evaluations - len(known))
    scorer = _Scorer(
        region, searcher, cache, evaluate, progress, known, missing + settings.refinement
    )

    if isinstance(searcher, GuidedEvolution):
        spread = pool.spread(round(settings.spread * missing), rng)
        scorer.score([a for a in spread if a not in known], settings.batch)
        scorer.ask(missing, settings.batch)
        few = max(1, settings.refinement // 4)  # small batches, as each teaches the next
        scorer.ask(missing + settings.refinement - few, few)
        scorer.score(searcher.ask_expected_best(few), few)
    else:
        scorer.ask(missing + settings.refinement, settings.batch)
    return _result(scorer, settings.seed)


class _Scorer:
    """Scores what a searcher asks for, through the cache.

    Args:
        known: scores that the search began with.
        planned: how many it may add.

    Attributes:
        scores: known and added, in their order.
        added: how many scores the search asked for.
        newly_scored: how many of those the cache did not hold.
    """

    def __init__(
        self,
        region: Region,
        searcher: Searcher,
        cache: ScoreCache,
        evaluate: Evaluate,
        progress: Callable[[SearchProgress], None],
        known: dict[Architecture, float],
        planned: int,
    ) -> None:
        self.region, self._searcher, self._cache = region, searcher, cache
        self._evaluate, self._progress, self._planned = evaluate, progress, planned
        self.scores, self._known, self.newly_scored = dict(known), len(known), 0
        searcher.tell(list(known), list(known.values()))

    @property
    def added(self) -> int:
        return len(self.scores) - self._known

    def ask(self, total: int, batch: int) -> None:
        """Score what the searcher asks for until ``total`` are added, or nothing is left."""
        while (left := total - self.added) > 0:
            architectures = self._searcher.ask(min(batch, left))
            if not architectures:
                return
            self.score(architectures, batch)

    def score(self, architectures: Sequence[Architecture], batch: int) -> None:
        for start in range(0, len(architectures), batch):
            part = architectures[start : start + batch]
            unknown = [a for a in part if a not in self._cache]
            if unknown:
                found = np.asarray(self._evaluate(unknown), dtype=float)
                self._cache.add(unknown, found.tolist())
                self.newly_scored += len(unknown)
            scores = {a: self._cache[a] for a in part}
            self._searcher.tell(list(scores), list(scores.values()))
            self.scores.update(scores)
            self._progress(SearchProgress(self.added, self._planned, self._best_score()))

    def _best_score(self) -> float | None:
        usage = self.region.usage(list(self.scores))
        within = zip(self.scores.values(), usage, strict=True)
        return max((score for score, share in within if share <= 1), default=None)


def _searcher(space: SearchSpace, region: Region, pool: Pool, settings: SearchSettings) -> Searcher:
    rows = pool.near(region.least_usage)
    if settings.algorithm == "random":
        return RandomSearch(pool, rows, settings.seed)
    if settings.algorithm == "evolution":
        return RegularizedEvolution(space, region, pool, rows, settings)
    return GuidedEvolution(space, region, pool, rows, settings)


def _search_key(space: SearchSpace, region: Region, settings: SearchSettings) -> str:
    """What makes two searches the same one. Two predictions stand for the latency predictor."""
    extremes = ArchitectureBatch.of([space.smallest, space.largest])
    content = {
        "space": space.to_dict(),
        "limits": region.limits.to_dict(),
        "labels": region.shape.num_labels,
        "vocabulary": region.shape.vocab_size,
        "positions": region.shape.max_positions,
        "settings": settings.to_dict(),
        "latency_ms": np.asarray(region.predict_latency(extremes)).tolist(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# ---- what was found ------------------------------------------------------------------------------


def _result(scorer: _Scorer, seed: int) -> SearchResult:
    region, scores = scorer.region, scorer.scores
    predictor = fit_predictor(scores, region, seed)
    batch = ArchitectureBatch.of(list(scores))
    latency_ms, usage = region.measure(batch)
    evaluations = tuple(
        Evaluation(architecture, float(ms), score, float(smoothed), bool(share <= 1))
        for (architecture, score), ms, share, smoothed in zip(
            scores.items(), latency_ms, usage, predictor.expect(batch), strict=True
        )
    )
    best = best_of(evaluation for evaluation in evaluations if evaluation.within_limits)
    assert best is not None, "a search asks for at least one architecture within the limits"
    measured = [
        Point(e.architecture, e.latency_ms, e.score)
        for e, capped in zip(evaluations, _within_caps(batch, region), strict=True)
        if capped
    ]
    return SearchResult(
        limits=region.limits,
        best=best,
        front=Front.of(measured),
        evaluations=evaluations,
        scored=scorer.added,
        newly_scored=scorer.newly_scored,
        score_noise=predictor.noise_,
    )


def _within_caps(batch: ArchitectureBatch, region: Region) -> NDArray[np.bool_]:
    """Which architectures keep to the caps, whatever their latency, (N,)."""
    return parameters(batch, region.shape) <= region.limits.max_parameters
