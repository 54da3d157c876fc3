"""AutoTinyBERT's two search rules, as the baselines they are (Yin et al., ACL 2021).

Its candidates lie close below a latency; ours are held to the budget itself, where theirs may
exceed it by a tenth. Its fitness is the score after fine-tuning; ours is the sub-network's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.search.breeding import Breeding
from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.searcher import Searcher
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.space import SearchSpace

LEAST_USAGE = 0.85
"""Share of the budget from which on it looks for candidates."""
POPULATION = 25
EXPLORED = 0.5
"""Share of a generation that is drawn at random."""
MUTATION = (0.25, 0.5)
"""Range that a generation's probability of a step in each dimension is drawn from."""


class AutoTinyBertFast(Searcher):
    """Its Fast rule: random members in BERT's proportions, by their mean layer.

    With hidden size h, intermediate size f and attention width q: 1.6 h <= f <= 1.9 h and
    0.7 h <= q <= h. In a space that holds none of these, the rule has nothing to say and all stay.
    """

    def __init__(
        self, space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
    ) -> None:
        super().__init__(space, goals, pool, settings)
        held = [_in_proportion(batch) for batch in pool.blocks(self.rows)]
        found = self.rows[np.concatenate(held)] if held else self.rows
        self.rows = found if len(found) else self.rows

    @property
    def least_usage(self) -> float:
        return LEAST_USAGE

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        return self.filled([], count, rng)


def _in_proportion(batch: ArchitectureBatch) -> NDArray[np.bool_]:
    batch = batch.expanded()
    hidden, depth = batch.hidden_size, batch.num_layers
    intermediate = batch.intermediate_size.sum(1) / (depth * hidden)
    qkv = batch.qkv_size.sum(1) / (depth * hidden)
    held: NDArray[np.bool_] = (
        (intermediate >= 1.6) & (intermediate <= 1.9) & (qkv >= 0.7) & (qkv <= 1)
    )
    return held


class AutoTinyBertEvolution(Searcher):
    """Its Evolved rule: generations, half of them random, half mutants of parents by roulette.

    A parent is drawn from the best that are known, with a probability in proportion to its score.
    The published text leaves open how many are parents; here they are as many as a generation.
    """

    @property
    def least_usage(self) -> float:
        return LEAST_USAGE

    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        chosen: list[Architecture] = []
        if len(self.scores) >= POPULATION:
            mutants = int(rng.binomial(count, 1 - EXPLORED))
            known = list(self.scores)
            within = np.logical_or.reduce(self.goals.usage(known) <= 1)
            fit = [a for a, held in zip(known, within, strict=True) if held] or known
            parents = sorted(fit, key=lambda a: -self.scores[a])[:POPULATION]
            values = np.array([self.scores[parent] for parent in parents])
            values = values - values.min() + 1e-9  # a correlation may be below 0
            shares = values / values.sum()
            breeding = Breeding(self.space, self.goals, rng.uniform(*MUTATION), crossover=0.0)
            chosen = breeding.children(
                lambda: parents[int(rng.choice(len(parents), p=shares))], mutants, rng, self.knows
            )
        return self.filled(chosen, count, rng)
