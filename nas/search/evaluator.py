"""Who scores architectures: an interface that one process and a cluster both have."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from supernet.architecture import Architecture


@dataclass(frozen=True, slots=True)
class Failed:
    """An architecture that could not be scored, however often it was tried.

    Args:
        reason: one line.
    """

    reason: str


Outcome = float | Failed


class Evaluator(Protocol):
    """Scores architectures, one or many at a time, and hands each back when it is ready."""

    def submit(self, architectures: Sequence[Architecture]) -> None:
        """Take architectures to be scored, each once; those submitted first are begun first."""

    def next(self) -> tuple[Architecture, Outcome]:
        """Wait for one that is ready, in any order. At least one must be under way."""


class LocalEvaluator:
    """Scores in this process, one after the other.

    Args:
        score: from an architecture to its score; the score of one must not depend on others.
    """

    def __init__(self, score: Callable[[Architecture], float]) -> None:
        self._score = score
        self._waiting: deque[Architecture] = deque()

    def submit(self, architectures: Sequence[Architecture]) -> None:
        self._waiting.extend(architectures)

    def next(self) -> tuple[Architecture, Outcome]:
        architecture = self._waiting.popleft()
        return architecture, float(self._score(architecture))
