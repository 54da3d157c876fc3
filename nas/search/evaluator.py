"""Who scores architectures: an interface that one process and a cluster both have."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from supernet.architecture import Architecture
from supernet.errors import NasError


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
        """Take architectures to be scored, the first of them first; none of them is under way."""

    def next(self) -> tuple[Architecture, Outcome]:
        """Wait for one that is ready, in any order. At least one must be under way."""


class LocalEvaluator:
    """Scores in this process, one after the other.

    Args:
        score: from an architecture to its score, which must not depend on others.
    """

    def __init__(self, score: Callable[[Architecture], float]) -> None:
        self._score = score
        self._waiting: deque[Architecture] = deque()

    def submit(self, architectures: Sequence[Architecture]) -> None:
        self._waiting.extend(architectures)

    def next(self) -> tuple[Architecture, Outcome]:
        architecture = self._waiting.popleft()
        return architecture, float(self._score(architecture))


class Recorder(Protocol):
    """Keeps outcomes somewhere else too."""

    def record(self, architectures: Sequence[Architecture], outcomes: Sequence[Outcome]) -> None:
        """Keep them; more than once does no harm."""


class Recorded:
    """An evaluator whose outcomes are recorded as they come.

    Args:
        warn: receives one line when the recorder fails: the search goes on.
    """

    def __init__(
        self, evaluator: Evaluator, recorder: Recorder, warn: Callable[[str], None]
    ) -> None:
        self._evaluator, self._recorder, self._warn = evaluator, recorder, warn
        self._fails = False

    def submit(self, architectures: Sequence[Architecture]) -> None:
        self._evaluator.submit(architectures)

    def next(self) -> tuple[Architecture, Outcome]:
        architecture, outcome = self._evaluator.next()
        if not self._fails:
            try:
                self._recorder.record([architecture], [outcome])
            except NasError as error:
                self._fails = True
                self._warn(f"the search is not recorded for now: {error}")
        return architecture, outcome
