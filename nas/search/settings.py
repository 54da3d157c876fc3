"""How a search spends its evaluations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from nas.search.registry import SEARCHERS
from supernet.errors import NasError, check_number, shown


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of :func:`nas.search.search.run_search`.

    Args:
        evaluations: architectures scored in a first search. Scores of earlier searches count.
        refinement: architectures that every search adds near its own limits: what a second
            budget costs at most.
        batch: proposed at a time.
        batches_in_flight: proposed before the first of them must be scored, so that all workers
            of a cluster stay busy. What is found depends on this and on ``batch``, and not on the
            number of workers.
        spread: architectures that the default search scores first, near the limits and of all
            depths; at most half of its evaluations. The rest goes where a gain is expected.
        least_gain: the default search ends when no evaluation is expected to raise the best score
            by this much, in the score's unit, summed over budgets; 0 spends all evaluations.
        near: ``random``, ``evolution`` and ``hat`` propose what uses this share of a limit, of what
            the most demanding architecture within it uses.
        population, tournament: of the ageing evolution (Real et al. 2019); NSGA-II's population.
        mutation: probability that a dimension moves.
        crossover: probability that a child has two parents.
        max_enumerated: spaces up to this size are predicted whole, larger ones are sampled.
        algorithm: who proposes, by a name of :data:`nas.search.registry.SEARCHERS`.
        seed: of every choice.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    evaluations: int = 96
    refinement: int = 8
    batch: int = 4
    batches_in_flight: int = 2
    spread: int = 8
    least_gain: float = 0.0
    near: float = 0.6
    population: int = 32
    tournament: int = 8
    mutation: float = 0.25
    crossover: float = 0.25
    max_enumerated: int = 2_000_000
    algorithm: str = "guided"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "evaluations", "refinement", "batch", "batches_in_flight", "spread", "population",
            "tournament",
        ):  # fmt: skip
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("tournament", self.tournament, 1, self.population, whole=True)
        for name in ("near", "mutation", "crossover"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("least_gain", self.least_gain, 0)
        check_number("max_enumerated", self.max_enumerated, 0, whole=True)
        check_number("seed", self.seed, 0, whole=True)
        if self.algorithm not in SEARCHERS:
            accepted = ", ".join(SEARCHERS)
            raise NasError(f"algorithm must be one of {accepted}, not {shown(self.algorithm)}")

    def identity(self) -> dict[str, Any]:
        """What a cache key holds of the settings.

        ``fidelity`` was a setting once; with its default in the key, earlier searches are found.
        """
        return asdict(self) | {"fidelity": 1.0}
