"""How a search spends its evaluations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

from supernet.errors import NasError, check_number

Algorithm = Literal["guided", "evolution", "random"]


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of :func:`nas.search.search.run_search`.

    Args:
        evaluations: architectures scored in a first search. Scores of earlier searches count.
        refinement: architectures that every search adds near its own limits: what a second
            budget costs at most.
        batch: scored between two looks at the results.
        spread: share of a first search's evaluations that go over the whole range of latencies,
            for the front and for later budgets; the others go near the asked budget.
        near: "near the budget" begins at this share of it.
        exploration: standard deviations that the score predictor's doubt adds to a candidate.
        population, tournament: of the ageing evolution (Real et al. 2019).
        mutation: probability that a dimension moves.
        crossover: probability that a child has two parents.
        max_enumerated: spaces up to this size are predicted whole, larger ones are sampled.
        algorithm: ``guided`` lets the score predictor choose among what evolution proposes;
            ``evolution`` and ``random`` are the baselines.
        seed: of every choice.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    evaluations: int = 96
    refinement: int = 8
    batch: int = 8
    spread: float = 0.25
    near: float = 0.6
    exploration: float = 1.0
    population: int = 32
    tournament: int = 8
    mutation: float = 0.25
    crossover: float = 0.25
    max_enumerated: int = 2_000_000
    algorithm: Algorithm = "guided"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("evaluations", "refinement", "batch", "population", "tournament"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("tournament", self.tournament, 1, self.population, whole=True)
        for name in ("spread", "near", "mutation", "crossover"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("exploration", self.exploration, 0)
        check_number("max_enumerated", self.max_enumerated, 0, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        if self.algorithm not in get_args(Algorithm):
            accepted = ", ".join(get_args(Algorithm))
            raise NasError(f"algorithm must be one of {accepted}, not {self.algorithm!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
