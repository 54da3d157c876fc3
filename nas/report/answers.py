"""Answers from a finished search: other budgets, other targets, and nothing scored anew."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from latency.target import Budget
from nas.report.record import Evaluated, ShownFront
from nas.search.constraints import FloatArray
from nas.search.front import Point, front_of
from supernet.architecture import Architecture
from supernet.errors import NasError


class Answers:
    """A finished search, ready to be asked for any budget.

    Args:
        shown: the search.

    Raises:
        NasError: its report holds no evaluations.
    """

    def __init__(self, shown: ShownFront) -> None:
        self.shown = shown
        known = [one for one in shown.evaluations if one.within_caps]
        if not known:
            raise NasError("this report lists no evaluations: run the search again to have them")
        known.sort(key=lambda one: one.latency_ms)
        self._latencies = [one.latency_ms for one in known]
        self._best = list(accumulate(known, _better))

    def within(self, budget_ms: float) -> Evaluated:
        """The best by the rule of :func:`nas.search.result.best_of`, predicted within a budget.

        A search leaves some of its budget free, for its model is measured; a prediction is taken
        at its word here.

        Raises:
            NasError: nothing that was scored is so fast; the message names the fastest.
        """
        count = bisect_right(self._latencies, budget_ms)
        if not count:
            raise NasError(
                f"no architecture of this search is within {budget_ms:.3g} ms; the fastest is "
                f"predicted at {self._latencies[0]:.3g} ms"
            )
        return self._best[count - 1]


def _better(one: Evaluated, other: Evaluated) -> Evaluated:
    return max(one, other, key=lambda e: (round(e.smoothed_score, 4), -e.latency_ms))


def budget_ms(shown: ShownFront, text: str) -> float:
    """A budget in milliseconds.

    Args:
        text: as :meth:`latency.target.Budget.parse` takes it.

    Raises:
        NasError: another percentile than the front's, or a speed-up where the teacher's latency is
            not known.
    """
    budget = Budget.parse(text)
    if "@" in text and budget.percentile != shown.percentile:
        raise NasError(
            f"budget {text!r} is of p{budget.percentile}, this front of p{shown.percentile}"
        )
    if budget.speedup is not None and shown.teacher is None:
        raise NasError(
            f"budget {text!r}: the teacher was not timed on this target; give milliseconds"
        )
    return budget.limit_ms(shown.teacher[0] if shown.teacher else 0.0)


def on_target(
    shown: ShownFront, predict: Callable[[Sequence[Architecture]], FloatArray]
) -> ShownFront:
    """The same scores with the latencies of another target, hence another front.

    Args:
        predict: from N architectures to their latencies in milliseconds, (N,).

    Raises:
        NasError: the report holds no evaluations.
    """
    if not shown.evaluations:
        raise NasError("this report lists no evaluations: run the search again to have them")
    latencies = predict([one.architecture for one in shown.evaluations])
    moved = [
        replace(one, latency_ms=float(ms))
        for one, ms in zip(shown.evaluations, latencies, strict=True)
    ]
    points = front_of(
        Point(one.architecture, one.latency_ms, one.score) for one in moved if one.within_caps
    )
    return replace(
        shown,
        points=points,
        evaluations=tuple(moved),
        chosen=None,
        budget_ms=None,
        model=None,
        teacher=None,
    )
