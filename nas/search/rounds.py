"""Batch after batch, scored through the cache, and told to the searcher in a fixed order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from nas.search.constraints import parameters
from nas.search.evaluator import Evaluator, Failed
from nas.search.front import Point, non_dominated
from nas.search.progress import SearchProgress
from nas.search.score_cache import ScoreCache
from nas.search.searcher import Searcher
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.errors import NasError

_HOPELESS = 16
"""So many failures before the first score, and the fault is not the architectures'."""


class Rounds:
    """Has scored what a searcher proposes.

    Batches are proposed in a fixed order, each when the one ``settings.batches_in_flight`` before
    it was told, and told in that order: so it does not matter who is ready first.

    Failures are stored once something was scored: until then the fault may be the evaluator's.

    Args:
        searcher: is told ``known`` at once.
        known: scores that the search began with.
        planned: how many architectures the search will ask for at most.
        progress: called after each batch.

    Attributes:
        scores: known and added, in the order told.
        added: how many architectures the search asked for.
        newly_scored: how many of those the cache did not hold.
        failed: those that could not be scored.
    """

    def __init__(
        self,
        searcher: Searcher,
        evaluator: Evaluator,
        cache: ScoreCache,
        known: dict[Architecture, float],
        planned: int,
        progress: Callable[[SearchProgress], None],
    ) -> None:
        self._searcher, self._evaluator, self._cache = searcher, evaluator, cache
        self._planned, self._progress = planned, progress
        self.scores = dict(known)
        self.added = self.newly_scored = 0
        self.failed: dict[Architecture, str] = {}
        self._unknown: set[Architecture] = set()
        self._under_way: set[Architecture] = set()
        self._unstored: dict[Architecture, str] = {}
        self._begun_s = time.monotonic()
        searcher.tell(list(known), list(known.values()))

    def score(self, architectures: Sequence[Architecture]) -> None:
        """Score these."""
        waiting = deque(architectures)

        def following(count: int) -> list[Architecture]:
            return [waiting.popleft() for _ in range(min(count, len(waiting)))]

        self.run(following, self.added + len(architectures))

    def run(self, propose: Callable[[int], list[Architecture]], total: int) -> None:
        """Score what is proposed until ``total`` are added, or nothing is."""
        settings = self._searcher.settings
        batches: deque[list[Architecture]] = deque()
        asked = self.added
        while True:
            while asked < total and len(batches) < settings.batches_in_flight:
                batch = propose(min(settings.batch, total - asked))
                if not batch:
                    total = asked
                    break
                asked += len(batch)
                self._submit(batch)
                batches.append(batch)
            if not batches:
                return
            self._finish(batches.popleft())

    def _submit(self, batch: Sequence[Architecture]) -> None:
        """Have scored what the cache does not know."""
        missing = [a for a in batch if a not in self._cache]
        untried = [a for a in missing if self._cache.failure(a) is None]
        self._unknown.update(missing)
        self._under_way.update(untried)
        self._evaluator.submit(untried)

    def _finish(self, batch: Sequence[Architecture]) -> None:
        """Wait until all of a batch are scored, and tell the searcher.

        Raises:
            NasError: nothing can be scored.
        """
        while any(a in self._under_way for a in batch):
            self._take_next()
        scores = {a: self._cache[a] for a in batch if a in self._cache}
        for a in batch:
            why = self._unstored.get(a) or self._cache.failure(a)
            if a not in scores and why is not None:
                self.failed[a] = why
                if not self.scores and not scores and len(self.failed) >= _HOPELESS:
                    raise NasError(f"no architecture can be scored: {why}")
        self._searcher.tell(list(scores), list(scores.values()))
        self.scores.update(scores)
        self.added += len(batch)
        self.newly_scored += sum(a in self._unknown for a in scores)
        if self.scores:
            self._progress(self._moment())

    def _take_next(self) -> None:
        ready, outcome = self._evaluator.next()
        self._under_way.remove(ready)
        if isinstance(outcome, Failed):
            self._unstored[ready] = outcome.reason
        else:
            self._cache.add([ready], [outcome])
        if len(self._cache):
            for failed, reason in self._unstored.items():
                self._cache.exclude(failed, reason)
            self._unstored.clear()

    def _moment(self) -> SearchProgress:
        goals = self._searcher.goals
        known, score = list(self.scores), np.array(list(self.scores.values()))
        batch = ArchitectureBatch.of(known)
        latencies, usages = goals.measure(batch)
        capped = parameters(batch, goals.each[0].shape) <= goals.each[0].limits.max_parameters
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
            planned=self._planned,
            seconds=time.monotonic() - self._begun_s,
            best=tuple(best),
            front_size=len(non_dominated(latencies[0][capped], score[capped])),
            expected_gain=self._searcher.expected_gain,
            cached=self.added - self.newly_scored,
        )
