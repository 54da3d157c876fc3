"""The default searcher: a score predictor chooses what to score, by the gain it expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
from numpy.typing import NDArray

from nas.search.acquisition import choose, expected_gain
from nas.search.breeding import Breeding
from nas.search.constraints import FloatArray
from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.score_predictor import ScorePredictor, fit_predictor
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

_RANDOM = 1024
"""Members of the pool that are looked at each time."""
_SCANNED = 32768
"""Members of the pool that are looked at after each tuning, to keep the most promising."""
_KEPT = 512
_BRED = 96
_PARENTS = 10
_CANDIDATES = 256
"""What a batch is chosen from: a covariance of this size is cheap."""


def tuned_at(count: int) -> int:
    """The last count of scores, up to ``count``, at which a predictor is tuned anew.

    Tuning costs dozens of factorizations, so it waits until there is half as much again to learn.

    Example:
        >>> [tuned_at(count) for count in (1, 7, 8, 11, 12, 100, 300)]
        [1, 7, 8, 8, 12, 90, 202]
    """
    last, following = count, 8
    while following <= count:
        last, following = following, following * 3 // 2
    return last


@dataclass(frozen=True)
class _Promises:
    """Unknown architectures that promise a gain.

    Args:
        architectures: N of them.
        usage: of each goal's limits, (G, N)
        most: the greatest gain that one is expected to bring; 0 where there is none.
    """

    architectures: list[Architecture]
    usage: FloatArray
    most: float

    def enough(self, least_gain: float) -> bool:
        return bool(self.architectures) and self.most >= least_gain


class GuidedSearch(Searcher):
    """Proposes what is expected to gain most, until nothing is worth its evaluation.

    Candidates are random members of the pool, those of it that promised most when the predictor
    was tuned last, and children and neighbours of the best that are known. A batch of them is
    chosen by :func:`nas.search.acquisition.choose`. When no candidate is expected to gain
    ``settings.least_gain``, the whole pool is asked; when nothing of it is either, the search ends.

    Of the settings it reads mutation, crossover and the least gain.
    """

    def __init__(
        self, space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
    ) -> None:
        super().__init__(space, goals, pool, settings)
        self._breeding = Breeding(space, goals, settings.mutation, settings.crossover)
        self._tuned: tuple[int, ScorePredictor] | None = None
        self._scanned: tuple[int, NDArray[np.intp]] | None = None

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        return self._worthwhile(count, rng) if self.scores else self.filled([], count, rng)

    def ask_expected_best(self, count: int) -> list[Architecture]:
        """Those not yet scored among the ``count`` of highest expected score for each goal.

        In an enumerated space they are the best of all architectures; none are left when the best
        are known already. Without any score, random ones.
        """
        if not self.scores:
            return self.ask(count)
        predictor = self.predictor()
        share = -(-count // len(self.goals))
        expected = np.concatenate([predictor.expect(b) for b in self.pool.blocks(self.rows)])
        ranked = [
            self._expected_best(predictor, expected, goal, share) for goal in range(len(self.goals))
        ]
        in_turn = dict.fromkeys(a for best in zip_longest(*ranked) for a in best if a is not None)
        chosen = [a for a in in_turn if not self.knows(a)][:count]
        self.expect(chosen)
        return chosen

    def _expected_best(
        self, predictor: ScorePredictor, expected: FloatArray, goal: int, count: int
    ) -> list[Architecture]:
        """The ``count`` of highest expected score within a goal's limits, known or not.

        Args:
            expected: scores of the pool's members that may be proposed.
        """
        within = self.pool.usage[goal, self.rows] <= 1
        order = np.argsort(np.where(within, -expected, np.inf), kind="stable")
        candidates = list(self.pool.batch(self.rows[order[: min(count, within.sum())]]))
        if not self.pool.complete:
            others = dict.fromkeys([*candidates, *self.scores])
            others |= dict.fromkeys(self._bred(self.rng()))
            inside = self.goals.usage(others)[goal] <= 1
            candidates = [a for a, held in zip(others, inside, strict=True) if held]
            theirs = predictor.expect(ArchitectureBatch.of(candidates))
            best = np.argsort(-theirs, kind="stable")[:count]
            candidates = [candidates[row] for row in best]
        return candidates

    # ---- candidates ---------------------------------------------------------------------------

    def _worthwhile(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Up to ``count`` candidates that are expected to gain most, and enough."""
        predictor = self.predictor()
        best = self._best_known(predictor, self.scores)
        drawn = rng.choice(self.rows, min(_RANDOM, len(self.rows)), replace=False)
        found = self._best_of(
            predictor, np.union1d(drawn, self._promising()), self._bred(rng), best
        )
        if not found.enough(self.settings.least_gain):
            found = self._best_of(predictor, self.rows, [], best)
        self.expected_gain = found.most
        if not found.enough(self.settings.least_gain):
            return []
        pending = ArchitectureBatch.of(list(self.pending))
        batch = ArchitectureBatch.of(found.architectures)
        chosen = choose(predictor, pending, batch, found.usage <= 1, best, count)
        return [found.architectures[row] for row in chosen]

    def _bred(self, rng: np.random.Generator) -> list[Architecture]:
        """Children and neighbours of the best scored that are within the limits and unknown."""
        exclude = self.knows
        parents = self._best_scored()
        found = self._breeding.offspring(parents, _BRED, rng, exclude)
        if self.space.uniform:  # free layers have hundreds of neighbours each
            around = (n for parent in parents for n in self.space.neighbours(parent))
            found += self._breeding.admitted(around, exclude)
        return list(dict.fromkeys(found))

    def _promising(self) -> NDArray[np.intp]:
        """Rows that promised most, of many of the pool, when the predictor was tuned last."""
        count, tuned = self._tuning()
        if self._scanned is None or self._scanned[0] != count:
            rows = self.rows
            if len(rows) > _SCANNED:
                rng = np.random.default_rng([self.settings.seed, count])
                rows = np.sort(rng.choice(rows, _SCANNED, replace=False))
            gain = self._gain(tuned, rows, self._best_known(tuned, self._first(count)))
            self._scanned = count, rows[np.argsort(-gain, kind="stable")[:_KEPT]]
        return self._scanned[1]

    def _best_of(
        self,
        predictor: ScorePredictor,
        rows: NDArray[np.intp],
        others: list[Architecture],
        best: FloatArray,
    ) -> _Promises:
        """Those of the pool's ``rows`` and of ``others`` that promise most and are unknown."""
        gain = self._gain(predictor, rows, best)
        usage = self.pool.usage[:, rows]
        if others:
            batch = ArchitectureBatch.of(others)
            theirs = self.goals.usage(others)
            gain = np.append(gain, expected_gain(*predictor.predict(batch), theirs <= 1, best))
            usage = np.concatenate([usage, theirs], axis=1)
        order = np.argsort(-gain, kind="stable")
        found: dict[Architecture, int] = {}
        for start in range(0, len(order), _CANDIDATES):
            part = order[start : start + _CANDIDATES]
            ours = iter(self.pool.batch(rows[part[part < len(rows)]]))
            for place in part.tolist():
                one = next(ours) if place < len(rows) else others[place - len(rows)]
                if not self.knows(one):
                    found.setdefault(one, place)
            if len(found) >= _CANDIDATES // 2:
                break
        places = np.array(list(found.values()), dtype=np.intp)
        return _Promises(list(found), usage[:, places], float(gain[places].max(initial=0)))

    def _gain(
        self, predictor: ScorePredictor, rows: NDArray[np.intp], best: FloatArray
    ) -> FloatArray:
        """Expected gain of the pool's architectures at ``rows``, (N,)."""
        parts = [np.zeros(0)]
        for start in range(0, len(rows), _SCANNED):
            part = rows[start : start + _SCANNED]
            predicted = predictor.predict(self.pool.batch(part))
            parts.append(expected_gain(*predicted, self.pool.usage[:, part] <= 1, best))
        return np.concatenate(parts)

    # ---- what is known ------------------------------------------------------------------------

    def predictor(self) -> ScorePredictor:
        """Of all that was told: tuned now and then, fitted each time."""
        return fit_predictor(self.scores, self.goals, self.settings.seed, like=self._tuning()[1])

    def _tuning(self) -> tuple[int, ScorePredictor]:
        count = tuned_at(len(self.scores))
        if self._tuned is None or self._tuned[0] != count:
            self._tuned = (
                count,
                fit_predictor(self._first(count), self.goals, self.settings.seed),
            )
        return self._tuned

    def _first(self, count: int) -> dict[Architecture, float]:
        return dict(islice(self.scores.items(), count))

    def _best_known(
        self, predictor: ScorePredictor, scores: Mapping[Architecture, float]
    ) -> FloatArray:
        """The highest expected score among those scored within each goal's limits, (G,).

        Where there is none, the lowest of all: then any score within the limits is a gain.
        """
        known = list(scores)
        expected = predictor.expect(ArchitectureBatch.of(known))
        within = self.goals.usage(known) <= 1  # (G, N)
        best: FloatArray = np.where(within, expected, expected.min()).max(axis=1)
        return best

    def _best_scored(self) -> list[Architecture]:
        """The best scored within the limits of each goal, as parents."""
        known, values = list(self.scores), np.array([*self.scores.values()])
        found: dict[Architecture, None] = {}
        share = max(2, _PARENTS // len(self.goals))
        for usage in self.goals.usage(known):
            within = np.flatnonzero(usage <= 1)
            best = within[np.argsort(-values[within], kind="stable")[:share]]
            found |= dict.fromkeys(known[row] for row in best)
        return list(found)
