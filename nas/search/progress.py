"""How far a search is: what it says of itself while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from nas.search.front import Point


@dataclass(frozen=True, slots=True)
class SearchProgress:
    """A moment of a search.

    Args:
        scored, planned: architectures; a search may end before it has used up its plan.
        seconds: since this run of the search began.
        best: so far, for each budget; None where nothing scored is within it.
        front_size: architectures that nothing scored beats.
        expected_gain: by how much the searcher expects the next evaluation to raise the best score;
            None where it does not know.
        cached: how many of ``scored`` were found in the cache, which takes no time.
    """

    scored: int
    planned: int
    seconds: float
    best: tuple[Point | None, ...]
    front_size: int
    expected_gain: float | None = None
    cached: int = 0

    @property
    def per_minute(self) -> float | None:
        """Evaluations a minute; None before the first."""
        evaluated = self.scored - self.cached
        return 60 * evaluated / self.seconds if evaluated and self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        pace = self.per_minute
        return None if pace is None else 60 * max(0, self.planned - self.scored) / pace
