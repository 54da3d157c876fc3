"""From limits to an architecture: whom to score, and who is best."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np

from nas.search.constraints import Limits, in_nine_digits
from nas.search.evaluator import Evaluator
from nas.search.goals import Goal, Goals, PredictLatency
from nas.search.pool import build_pool
from nas.search.progress import SearchProgress
from nas.search.result import SearchResult, results_of
from nas.search.rounds import Rounds
from nas.search.score_cache import ScoreCache
from nas.search.searcher import new_searcher
from nas.search.searchers.guided import GuidedSearch
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture, EncoderShape
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError
from supernet.space import SearchSpace


def run_search(
    space: SearchSpace,
    predict_latency: PredictLatency,
    evaluator: Evaluator,
    limits: Limits,
    settings: SearchSettings = SearchSettings(),
    *,
    cache: ScoreCache,
    shape: EncoderShape = EncoderShape(),
    progress: Callable[[SearchProgress], None] = lambda _: None,
) -> SearchResult:
    """Find the architecture of highest score within limits: :func:`run_searches` for one goal."""
    goal = Goal(predict_latency, limits, shape)
    (result,) = run_searches(space, [goal], evaluator, settings, cache=cache, progress=progress)
    return result


def run_searches(
    space: SearchSpace,
    goals: Sequence[Goal],
    evaluator: Evaluator,
    settings: SearchSettings = SearchSettings(),
    *,
    cache: ScoreCache,
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
        first: architectures that are scored before all others. They count among the evaluations of
            a first search, and are added to a later one's.
        progress: called after each batch.

    Returns:
        An answer for each goal.

    Raises:
        NasError: no architecture keeps to the limits of a goal; the message says what would be
            feasible. Or none can be scored.
    """
    rng = np.random.default_rng(settings.seed)
    everywhere = Goals(tuple(goals))
    pool = build_pool(space, everywhere, max_enumerated=settings.max_enumerated, rng=rng)
    searcher = new_searcher(space, everywhere, pool, settings)

    begun_with = cache.begin(_search_key(space, everywhere, settings, first))
    known = {a: score for a, score in begun_with.items() if a in space}
    given = [a for a in first if a not in known]
    missing = max(0, settings.evaluations - len(known))
    planned = max(missing, len(given)) + settings.refinement

    rounds = Rounds(searcher, evaluator, cache, known, planned, progress)
    rounds.score(given)
    if isinstance(searcher, GuidedSearch):
        last = min(settings.refinement, max(len(goals), settings.refinement // 4))
        if missing > 1:
            count = min(settings.spread, missing // 2)
        else:
            count = min(settings.refinement // 2, planned - last - len(given))
        near = pool.near_limits(count, rng)
        rounds.score([a for a in near if a not in rounds.scores])
        rounds.run(searcher.ask, planned - last)
        rounds.score(searcher.ask_expected_best(last))
    else:
        rounds.run(searcher.ask, planned)

    if not rounds.scores:
        raise NasError(f"no architecture can be scored: {next(iter(rounds.failed.values()))}")
    return results_of(
        rounds.scores,
        everywhere,
        settings.seed,
        scored=rounds.added,
        newly_scored=rounds.newly_scored,
        failed=tuple(rounds.failed.items()),
    )


def _search_key(
    space: SearchSpace, goals: Goals, settings: SearchSettings, first: Sequence[Architecture]
) -> str:
    """What makes two searches the same one. Two predictions stand for a latency predictor."""
    extremes = ArchitectureBatch.of([space.smallest, space.largest])
    content = {
        "space": space.to_dict(),
        "goals": [
            {
                "limits": goal.limits.identity(),
                "labels": goal.shape.num_labels,
                "vocabulary": goal.shape.vocab_size,
                "positions": goal.shape.max_positions,
                "latency_ms": [in_nine_digits(ms) for ms in goal.predict_latency(extremes)],
            }
            for goal in goals.each
        ],
        "settings": settings.identity(),
        "first": [architecture.to_dict() for architecture in first],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
