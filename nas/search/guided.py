"""Evolution proposes, the score predictor chooses whom to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.evolution import RegularizedEvolution
from nas.search.pool import Pool, Region
from nas.search.score_predictor import ScorePredictor
from nas.search.searcher import History
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

_CANDIDATES = 512
"""What the predictor chooses a batch from: a covariance of this size is cheap."""
_RANDOM = 2048
_BRED = 128
_GENERATIONS = 3
_PARENTS = 32
_MAX_OBSERVATIONS = 512
"""A Gaussian process costs the cube of this; the scores nearest to the budget count most."""


def fit_predictor(
    scores: Mapping[Architecture, float], region: Region, seed: int
) -> ScorePredictor:
    """A predictor of the scores about a region, from those known, of which there must be some."""
    architectures, values = list(scores), np.array(list(scores.values()))
    if len(architectures) > _MAX_OBSERVATIONS:
        distance = np.abs(np.log(region.usage(architectures)))
        nearest = np.sort(np.argsort(distance, kind="stable")[:_MAX_OBSERVATIONS])
        architectures, values = [architectures[row] for row in nearest], values[nearest]
    return ScorePredictor(seed).fit(ArchitectureBatch.of(architectures), values)


class GuidedEvolution:
    """Proposes what promises most among children of the best and random members.

    Each time it is asked, candidates are the population's children, random members of the pool's
    region, and a few generations bred from those that the predictor expects most of. The
    predictor then picks a batch by upper confidence bounds.

    Args:
        space, region, pool, rows, settings: as for :class:`RegularizedEvolution`.
    """

    def __init__(
        self,
        space: SearchSpace,
        region: Region,
        pool: Pool,
        rows: NDArray[np.intp],
        settings: SearchSettings,
    ) -> None:
        self._region, self._pool, self._rows, self._settings = region, pool, rows, settings
        self._evolution = RegularizedEvolution(space, region, pool, rows, settings)
        self._history = History(settings.seed)

    def ask(self, count: int) -> list[Architecture]:
        history, rng = self._history, self._history.rng()
        if not history.scores:
            chosen = self._pool.draw(self._rows, count, rng, history.__contains__)
        else:
            predictor = self._predictor()
            candidates = self._candidates(predictor, rng)
            batch = ArchitectureBatch.of(candidates)
            rows = predictor.choose(batch, count, self._settings.exploration)
            chosen = [candidates[row] for row in rows]
        history.expect(chosen)
        return chosen

    def ask_expected_best(self, count: int) -> list[Architecture]:
        """Of the ``count`` architectures of highest expected score, those not yet scored.

        In an enumerated space these are the best of all architectures in the region; none are
        left when the best are known already. Without any score, random ones.
        """
        history = self._history
        if not history.scores:
            return self.ask(count)
        predictor = self._predictor()
        expected = [predictor.expect(block) for block in self._pool.blocks(self._rows)]
        order = np.argsort(-np.concatenate(expected), kind="stable")
        candidates = dict.fromkeys(self._pool.batch(self._rows[order[:count]]))
        if not self._pool.complete:
            candidates |= dict.fromkeys(self._candidates(predictor, history.rng()))
            candidates |= dict.fromkeys(self._scored_in_region())
        ranked = list(candidates)
        best = np.argsort(-predictor.expect(ArchitectureBatch.of(ranked)), kind="stable")[:count]
        chosen = [ranked[row] for row in best if ranked[row] not in history]
        history.expect(chosen)
        return chosen

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        self._history.tell(architectures, scores)
        self._evolution.tell(architectures, scores)

    def _predictor(self) -> ScorePredictor:
        return fit_predictor(self._history.scores, self._region, self._settings.seed)

    def _candidates(
        self, predictor: ScorePredictor, rng: np.random.Generator
    ) -> list[Architecture]:
        """Up to ``_CANDIDATES`` unknown architectures of the region with the highest bounds."""
        exclude = self._history.__contains__
        found = self._evolution.children(_BRED, rng, exclude)
        found += self._pool.draw(self._rows, _RANDOM, rng, exclude)
        found = self._best(predictor, found)
        for _ in range(_GENERATIONS):
            parents = found[:_PARENTS] + self._best_scored()
            bred = self._evolution.offspring(parents, _BRED, rng, exclude)
            found = self._best(predictor, found + bred)
        return found

    def _best(
        self, predictor: ScorePredictor, candidates: list[Architecture]
    ) -> list[Architecture]:
        unique = list(dict.fromkeys(candidates))
        if not unique:
            return []
        mean, deviation = predictor.predict(ArchitectureBatch.of(unique))
        bound = mean + self._settings.exploration * deviation
        order = np.argsort(-bound, kind="stable")[:_CANDIDATES]
        return [unique[row] for row in order]

    def _best_scored(self) -> list[Architecture]:
        scores = self._history.scores
        known = self._scored_in_region()
        return sorted(known, key=lambda a: -scores[a])[:_PARENTS]

    def _scored_in_region(self) -> list[Architecture]:
        known = list(self._history.scores)
        if not known:
            return []
        return [a for a, held in zip(known, self._region.holds(known), strict=True) if held]
