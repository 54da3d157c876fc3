"""AutoTinyBERT's two search rules, as the baselines they are (Yin et al., ACL 2021).

Its candidates lie close below a latency; ours are held to the budget itself, where theirs may
exceed it by a tenth. Its fitness is the score after fine-tuning; ours is the sub-network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.breeding import Breeding
from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.searcher import History
from supernet.architecture import Architecture
from supernet.space import SearchSpace

LEAST_USAGE = 0.85
"""Share of the budget from which on it looks for candidates."""
POPULATION = 25
EXPLORED = 0.5
"""Share of a generation that is drawn at random."""
MUTATION = (0.25, 0.5)
"""Range that a generation's probability of a step in each dimension is drawn from."""


def fast_rows(pool: Pool, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Its Fast rule: those in BERT's proportions, by their mean layer.

    With hidden size h, intermediate size f and attention width q: 1.6 h <= f <= 1.9 h and
    0.7 h <= q <= h. In a space that holds none of these, the rule has nothing to say and all stay.
    """
    kept = []
    for start in range(0, len(rows), 65536):
        part = rows[start : start + 65536]
        batch = pool.batch(part).expanded()
        hidden, depth = batch.hidden_size, batch.num_layers
        intermediate = batch.intermediate_size.sum(1) / (depth * hidden)
        qkv = batch.qkv_size.sum(1) / (depth * hidden)
        held = (intermediate >= 1.6) & (intermediate <= 1.9) & (qkv >= 0.7) & (qkv <= 1)
        kept.append(part[held])
    found = np.concatenate(kept) if kept else rows
    return found if len(found) else rows


class AutoTinyBertEvolution:
    """Its Evolved rule: generations, half of them random, half mutants of parents by roulette.

    A parent is drawn from the best that are known, with a probability in proportion to its score.
    The published text leaves open how many are parents; here they are as many as a generation.

    Args:
        space, goals, pool, rows, seed: as for :class:`nas.search.evolution.RegularizedEvolution`.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        pool: Pool,
        rows: NDArray[np.intp],
        seed: int,
    ) -> None:
        self._space, self._goals = space, goals
        self._pool, self._rows = pool, rows
        self._history = History(seed)

    def ask(self, count: int) -> list[Architecture]:
        history, rng = self._history, self._history.rng()
        chosen: list[Architecture] = []
        if len(history.scores) >= POPULATION:
            mutants = int(rng.binomial(count, 1 - EXPLORED))
            known = list(history.scores)
            within = np.logical_or.reduce(self._goals.usage(known) <= 1)
            fit = [a for a, held in zip(known, within, strict=True) if held] or known
            parents = sorted(fit, key=lambda a: -history.scores[a])[:POPULATION]
            values = np.array([history.scores[parent] for parent in parents])
            values = values - values.min() + 1e-9  # a correlation may be below 0
            shares = values / values.sum()
            breeding = Breeding(self._space, self._goals, rng.uniform(*MUTATION), crossover=0.0)
            chosen = breeding.children(
                lambda: parents[int(rng.choice(len(parents), p=shares))],
                mutants,
                rng,
                history.__contains__,
            )
        return self._pool.fill(chosen, self._rows, count, rng, history)

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        self._history.tell(architectures, scores)
