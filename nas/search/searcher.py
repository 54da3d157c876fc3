"""What every searcher is: ask it for architectures, tell it their scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pkgutil import resolve_name

import numpy as np
from numpy.typing import ArrayLike

from nas.search.goals import Goals
from nas.search.pool import Pool
from nas.search.registry import SEARCHERS
from nas.search.settings import SearchSettings
from supernet.architecture import Architecture
from supernet.errors import NasError
from supernet.space import SearchSpace


class Searcher(ABC):
    """Proposes architectures to score; a subclass defines :meth:`propose`.

    What a searcher proposes is a function of its seed, of the scores told so far in their order,
    and of what is asked but not yet told. So telling the stored scores again restores its state,
    and several workers may evaluate at once.

    Args:
        space: says what a mutation, a crossover and a neighbour are.
        goals: what proposals must keep to: the limits of one goal at least.
        pool: of ``space``, with the usage of the goals' limits.
        settings: the seed of every choice, and what else the searcher reads of them.

    Attributes:
        rows: members of the pool that may be proposed.
        scores: of what was told, oldest first.
        pending: what was asked for and not yet told, oldest first.
        expected_gain: the most that the next evaluation promises; None where it is not known.
    """

    expected_gain: float | None = None

    def __init__(
        self, space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
    ) -> None:
        self.space, self.pool, self.settings = space, pool, settings
        self.goals = goals.using(pool.usage, self.least_usage)
        self.rows = np.flatnonzero(self.goals.allow(pool.usage))
        self.scores: dict[Architecture, float] = {}
        self.pending: dict[Architecture, None] = {}

    @property
    def least_usage(self) -> float:
        """The share of a limit that each proposal must use, of what is feasible.

        Accuracy mostly grows with what a model may use, so a searcher that does not predict scores
        does well to look near the limits.
        """
        return 0.0

    @abstractmethod
    def propose(self, count: int, rng: np.random.Generator) -> list[Architecture]:
        """Up to ``count`` architectures that are not known yet; fewer when none are left."""

    def ask(self, count: int) -> list[Architecture]:
        """Up to ``count`` architectures, none asked or told before."""
        chosen = self.propose(count, self.rng())
        self.expect(chosen)
        return chosen

    def tell(self, architectures: Sequence[Architecture], scores: ArrayLike) -> None:
        """Take in scores, (N,), higher is better; also of architectures that were not asked for.

        Raises:
            NasError: not as many scores as architectures, or one that is not finite.
        """
        values = np.asarray(scores, dtype=float)
        if values.shape != (len(architectures),):
            raise NasError(f"{len(architectures)} architectures need as many scores: {values!r}")
        if not np.isfinite(values).all():
            raise NasError(f"scores must be finite numbers, not {values[~np.isfinite(values)]}")
        for architecture in architectures:
            self.pending.pop(architecture, None)
        self.scores.update(zip(architectures, values.tolist(), strict=True))

    def knows(self, architecture: Architecture) -> bool:
        """Whether an architecture was asked for or told."""
        return architecture in self.scores or architecture in self.pending

    def rng(self) -> np.random.Generator:
        """Chance, by the seed, and by how many scores are told and how many awaited."""
        return np.random.default_rng([self.settings.seed, len(self.scores), len(self.pending)])

    def expect(self, architectures: Sequence[Architecture]) -> None:
        """Wait for the scores of architectures, and propose none of them again."""
        self.pending.update(dict.fromkeys(architectures))

    def filled(
        self, chosen: Sequence[Architecture], count: int, rng: np.random.Generator
    ) -> list[Architecture]:
        """``chosen``, and random members of the pool up to ``count`` in all, if there are."""
        taken = set(chosen)
        others = self.pool.draw(
            self.rows, count - len(chosen), rng, lambda a: a in taken or self.knows(a)
        )
        return [*chosen, *others]


def new_searcher(
    space: SearchSpace, goals: Goals, pool: Pool, settings: SearchSettings
) -> Searcher:
    """The searcher that ``settings.algorithm`` names.

    Args:
        pool: of ``space``, with the usage of the goals' limits.

    Raises:
        NasError: the searcher does not suit the space or the goals, or needs a package that is not
            installed.
    """
    kind: type[Searcher] = resolve_name(
        f"nas.search.searchers.{SEARCHERS[settings.algorithm].place}"
    )
    return kind(space, goals, pool, settings)
