"""From limits to an architecture: whom to score, and who is best."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.search.constraints import Limits, parameters
from nas.search.evaluator import Evaluator, Failed
from nas.search.front import Front, Point, non_dominated
from nas.search.goals import Goal, Goals, PredictLatency
from nas.search.pool import Pool, build_pool
from nas.search.progress import SearchProgress
from nas.search.registry import new_searcher
from nas.search.result import Evaluation, Optimum, SearchResult, best_of
from nas.search.score_cache import ScoreCache
from nas.search.score_predictor import fit_predictor
from nas.search.searcher import Searcher
from nas.search.searchers.guided import GuidedSearch
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture, EncoderShape
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace

_HOPELESS = 16
"""So many failures before the first score, and the fault is not the architectures'."""


def run_search(
    space: SearchSpace,
    predict_latency: PredictLatency,
    evaluator: Evaluator,
    limits: Limits,
    settings: SearchSettings = SearchSettings(),
    *,
    cache: ScoreCache,
    screen: ScoreCache | None = None,
    shape: EncoderShape = EncoderShape(),
    progress: Callable[[SearchProgress], None] = lambda _: None,
) -> SearchResult:
    """Find the architecture of highest score within limits: :func:`run_searches` for one goal."""
    goal = Goal(predict_latency, limits, shape)
    (result,) = run_searches(
        space, [goal], evaluator, settings, cache=cache, screen=screen, progress=progress
    )
    return result


def run_searches(
    space: SearchSpace,
    goals: Sequence[Goal],
    evaluator: Evaluator,
    settings: SearchSettings = SearchSettings(),
    *,
    cache: ScoreCache,
    screen: ScoreCache | None = None,
    first: Sequence[Architecture] = (),
    progress: Callable[[SearchProgress], None] = lambda _: None,
) -> tuple[SearchResult, ...]:
    """Find the architecture of highest score within the limits of each goal.

    A first search scores ``settings.evaluations`` architectures, some near the limits at every
    depth, and most where they are expected to gain; a later one finds their scores in the cache.
    Then each adds up to ``settings.refinement``, a half of a later one's near its limits, and the
    last of them those expected to be best.

    Every choice follows from the settings and from what the cache held when this search first
    began, whoever scores, and however many at a time. So a search that was killed goes on as if it
    had not been, and one that is repeated scores nothing and answers the same.

    Args:
        space: what to choose from.
        goals: limits, each on its target.
        evaluator: the score of one architecture must not depend on the others.
        settings: see there.
        cache: scores of the supernet and the data that ``evaluator`` uses.
        screen: as ``cache``, for scores on ``settings.fidelity`` of the examples; needed where that
            is below 1.
        first: architectures that are scored before all others. They count among the evaluations of
            a first search, and are added to a later one's.
        progress: called after each batch.

    Returns:
        An answer for each goal.

    Raises:
        NasError: no architecture keeps to the limits of a goal; the message says what would be
            feasible. Or none can be scored, or ``screen`` is missing.
    """
    if settings.fidelity < 1 and screen is None:
        raise NasError(f"fidelity {settings.fidelity} needs a cache of scores on part of the data")
    rng = np.random.default_rng(settings.seed)
    everywhere = Goals(tuple(goals))
    pool = build_pool(space, everywhere, max_enumerated=settings.max_enumerated, rng=rng)
    searcher = new_searcher(space, everywhere, pool, settings)

    begun_with = cache.begin(_search_key(space, everywhere, settings, first))
    known = {a: score for a, score in begun_with.items() if a in space}
    missing = max(0, settings.evaluations - len(known))
    scorer = _Scorer(everywhere, searcher, evaluator, cache, screen, settings, progress, known)
    given = [a for a in first if a not in known]
    few = min(settings.refinement, max(len(goals), settings.refinement // 4))
    scorer.planned = max(missing, len(given)) + settings.refinement

    scorer.score(given)
    if isinstance(searcher, GuidedSearch):
        total = scorer.planned - few
        if missing > 1:
            some = pool.near_limits(min(settings.spread, missing // 2), rng)
        else:
            some = pool.near_limits(min(settings.refinement // 2, total - len(given)), rng)
        scorer.score([a for a in some if a not in scorer.scores])
        scorer.run(searcher.ask, total)
        scorer.score(searcher.ask_expected_best(few))
    else:
        scorer.run(searcher.ask, scorer.planned)
    return _results(scorer, pool, settings)


def _search_key(
    space: SearchSpace, goals: Goals, settings: SearchSettings, first: Sequence[Architecture]
) -> str:
    """What makes two searches the same one. Two predictions stand for a latency predictor."""
    extremes = ArchitectureBatch.of([space.smallest, space.largest])
    content = {
        "space": space.to_dict(),
        "goals": [
            {
                "limits": goal.limits.to_dict(),
                "labels": goal.shape.num_labels,
                "vocabulary": goal.shape.vocab_size,
                "positions": goal.shape.max_positions,
                "latency_ms": np.asarray(goal.predict_latency(extremes)).tolist(),
            }
            for goal in goals.each
        ],
        "settings": settings.to_dict(),
        "first": [architecture.to_dict() for architecture in first],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _Scorer:
    """Has scored what a searcher asks for, through the cache.

    Batches are proposed in a fixed order, each when the one ``settings.batches_in_flight`` before
    it was told, and told in that order: so it does not matter who is ready first.

    Args:
        known: scores that the search began with.

    Attributes:
        scores: known and added, in the order told.
        added: how many architectures the search asked for.
        newly_scored: how many of those the cache did not hold.
        failed: those that could not be scored.

    Failures are stored once something was scored: until then the fault may be the evaluator's.
    """

    def __init__(
        self,
        goals: Goals,
        searcher: Searcher,
        evaluator: Evaluator,
        cache: ScoreCache,
        screen: ScoreCache | None,
        settings: SearchSettings,
        progress: Callable[[SearchProgress], None],
        known: dict[Architecture, float],
    ) -> None:
        self.goals, self._searcher, self._evaluator = goals, searcher, evaluator
        self._cache, self._screen, self._settings = cache, screen, settings
        self._progress = progress
        self.scores = dict(known)
        self.added = self.newly_scored = self.planned = 0
        self.failed: dict[Architecture, str] = {}
        self._waiting_for: dict[Architecture, ScoreCache] = {}
        self._unknown: set[Architecture] = set()
        self._unstored: dict[Architecture, str] = {}
        self._next_goal = 0
        self._begun_s = time.monotonic()
        searcher.tell(list(known), list(known.values()))

    def run(self, propose: Callable[[int], list[Architecture]], total: int) -> None:
        """Score what is proposed until ``total`` are added, or nothing is."""
        self._score(lambda count: self._screened(propose, count), total)

    def score(self, architectures: Sequence[Architecture]) -> None:
        """Score these, all of them on all examples."""
        waiting = deque(architectures)

        def following(count: int) -> list[Architecture]:
            return [waiting.popleft() for _ in range(min(count, len(waiting)))]

        self._score(following, self.added + len(architectures))

    def _score(self, following: Callable[[int], list[Architecture]], total: int) -> None:
        settings = self._settings
        under_way: deque[list[Architecture]] = deque()
        asked = self.added
        while True:
            while asked < total and len(under_way) < settings.batches_in_flight:
                batch = following(min(settings.batch, total - asked))
                if not batch:
                    total = asked
                    break
                asked += len(batch)
                self._unknown.update(a for a in batch if a not in self._cache)
                self._begin(batch, self._cache, 1.0)
                under_way.append(batch)
            if not under_way:
                return
            self._end(under_way.popleft())

    def _screened(
        self, propose: Callable[[int], list[Architecture]], count: int
    ) -> list[Architecture]:
        """Up to ``count`` proposals: the best of more, on part of the examples, where so asked."""
        fidelity = self._settings.fidelity
        if fidelity == 1 or self._screen is None:
            return propose(count)
        while candidates := propose(round(count / fidelity)):
            self._begin(candidates, self._screen, fidelity)
            found = self._scores_of(candidates, self._screen)
            kept = self._promoted(found, count)
            out = [a for a in found if a not in kept]
            self._searcher.tell(out, [found[a] for a in out])
            if kept:
                return kept
        return []

    def _promoted(self, found: dict[Architecture, float], count: int) -> list[Architecture]:
        """The best within the limits of each goal in turn, from where the last batch stopped."""
        if not found:
            return []
        ranked = sorted(found, key=lambda a: -found[a])
        within = self.goals.usage(ranked) <= 1  # (G, N)
        kept: dict[Architecture, None] = {}
        in_vain = 0
        while len(kept) < count and in_vain < len(within):
            held = within[self._next_goal % len(within)]
            self._next_goal += 1
            left = (a for a, inside in zip(ranked, held, strict=True) if inside)
            best = next((a for a in left if a not in kept), None)
            in_vain = in_vain + 1 if best is None else 0
            if best is not None:
                kept[best] = None
        return list(kept)

    def _begin(
        self, architectures: Sequence[Architecture], cache: ScoreCache, fidelity: float
    ) -> None:
        """Have scored what the cache does not know."""
        unknown = [a for a in architectures if a not in cache and cache.failure(a) is None]
        self._evaluator.submit(unknown, fidelity)
        self._waiting_for.update(dict.fromkeys(unknown, cache))

    def _scores_of(
        self, architectures: Sequence[Architecture], cache: ScoreCache
    ) -> dict[Architecture, float]:
        """Wait until all of them are scored; without those that cannot be.

        Raises:
            NasError: nothing can be scored.
        """
        while any(self._waiting_for.get(a) is cache for a in architectures):
            ready, outcome = self._evaluator.next()
            their_cache = self._waiting_for.pop(ready)
            if isinstance(outcome, Failed):
                self._unstored[ready] = outcome.reason
            else:
                their_cache.add([ready], [outcome])
            if len(their_cache):
                for failed, reason in self._unstored.items():
                    their_cache.exclude(failed, reason)
                self._unstored.clear()
        scores = {a: cache[a] for a in architectures if a in cache}
        for a in architectures:
            why = self._unstored.get(a) or cache.failure(a)
            if a not in scores and why is not None:
                self.failed[a] = why
                if not self.scores and not scores and len(self.failed) >= _HOPELESS:
                    raise NasError(f"no architecture can be scored: {why}")
        return scores

    def _end(self, batch: list[Architecture]) -> None:
        scores = self._scores_of(batch, self._cache)
        self._searcher.tell(list(scores), list(scores.values()))
        self.scores.update(scores)
        self.added += len(batch)
        self.newly_scored += sum(a in self._unknown for a in scores)
        if self.scores:
            self._progress(self._moment())

    def _moment(self) -> SearchProgress:
        known = list(self.scores)
        score = np.array(list(self.scores.values()))
        batch = ArchitectureBatch.of(known)
        latencies, usages = self.goals.measure(batch)
        first = self.goals.each[0]
        capped = parameters(batch, first.shape) <= first.limits.max_parameters
        best: list[Point | None] = []
        for latency_ms, usage in zip(latencies, usages, strict=True):
            within = np.flatnonzero(usage <= 1)
            row = within[np.argmax(score[within])] if len(within) else None
            best.append(
                None
                if row is None
                else Point(known[row], float(latency_ms[row]), float(score[row]))
            )
        return SearchProgress(
            scored=self.added,
            planned=self.planned,
            seconds=time.monotonic() - self._begun_s,
            best=tuple(best),
            front_size=len(non_dominated(latencies[0][capped], score[capped])),
            expected_gain=self._searcher.expected_gain,
            cached=self.added - self.newly_scored,
        )


# ---- what was found ------------------------------------------------------------------------------


def _results(scorer: _Scorer, pool: Pool, settings: SearchSettings) -> tuple[SearchResult, ...]:
    goals, scores = scorer.goals, scorer.scores
    if not scores:
        raise NasError(f"no architecture can be scored: {next(iter(scorer.failed.values()))}")
    tuned = fit_predictor(scores, goals, settings.seed)
    predictor = fit_predictor(scores, goals, settings.seed, like=tuned)
    batch = ArchitectureBatch.of(list(scores))
    latencies, usages = goals.measure(batch)
    smoothed = predictor.expect(batch)
    rows = np.flatnonzero((pool.usage <= 1).any(axis=0))
    expected = np.concatenate([predictor.expect(block) for block in pool.blocks(rows)])
    results = []
    for row, goal in enumerate(goals.each):
        evaluations = tuple(
            Evaluation(architecture, float(ms), score, float(expected), bool(share <= 1))
            for (architecture, score), ms, share, expected in zip(
                scores.items(), latencies[row], usages[row], smoothed, strict=True
            )
        )
        best = best_of(evaluation for evaluation in evaluations if evaluation.within_limits)
        if best is None:
            raise NasError(
                f"none of {len(scores)} architectures scored is within {goal.limits.latency_ms:g} "
                "ms: search with more evaluations"
            )
        capped = parameters(batch, goal.shape) <= goal.limits.max_parameters
        results.append(
            SearchResult(
                limits=goal.limits,
                best=best,
                front=Front.of(
                    Point(e.architecture, e.latency_ms, e.score)
                    for e, keeps in zip(evaluations, capped, strict=True)
                    if keeps
                ),
                evaluations=evaluations,
                scored=scorer.added,
                newly_scored=scorer.newly_scored,
                score_noise=predictor.noise_,
                optimum=predicted_optimum(expected, goal, pool, row, rows),
                failed=tuple(scorer.failed.items()),
            )
        )
    return tuple(results)


def predicted_optimum(
    expected: NDArray[np.float64], goal: Goal, pool: Pool, place: int, rows: NDArray[np.intp]
) -> Optimum:
    """Of all of the pool within a goal's limits, the one of highest expected score.

    Args:
        expected: scores of the pool's members at ``rows``, (N,).
        goal, place: which stands at ``place`` among those that the pool was built for.
        rows: all that any goal allows, (N,).
    """
    within = pool.usage[place, rows] <= 1
    best = int(np.argmax(np.where(within, expected, -np.inf)))
    found = pool.batch(rows[[best]])
    return Optimum(
        architecture=found.architecture(0),
        latency_ms=float(goal.predict_latency(found)[0]),
        expected_score=float(expected[best]),
        considered=int(within.sum()),
        proven=pool.complete,
    )
