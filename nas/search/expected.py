"""What a model is expected to become: from the scores of a search to those of developed models.

A search scores what is not yet developed. Development closes part of the gap to the teacher, and
the race tells how much: it scores the same architectures before and after they have learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from nas.search.constraints import FloatArray

PRIOR_KEPT, PRIOR_RACERS = 0.6, 1.0
"""Share of the gap that is left where no race has told yet, and how many racers that counts for."""


def outlook(quality: float, teacher: float, num_layers: int) -> float:
    """What a fit promises: its quality, had development closed what it closes by depth alone.

    A fit does layer by layer what the teacher does, and errs more where a layer stands for several;
    development finds other ways. Of the gap to the teacher it is taken to leave d / (d + 1) times
    as much with d layers as with very many. Of the powers of this, the first ranks best on TREC and
    STS-B together (``benchmarks/ranking.py``): TREC asks for more, STS-B for none. For a single
    layer there is no other way: its gap counts in full.

    Args:
        quality, teacher: of the fitted student and of its teacher, on the same texts.
        num_layers: the student's.
    """
    left = num_layers / (num_layers + 1) if num_layers > 1 else 1.0
    return teacher - left * (teacher - quality)


@dataclass(frozen=True)
class Expectation:
    """Expected scores of developed models, by the task's metric on validation.

    Args:
        teacher_before: what the teacher has by the measure of the search.
        teacher_after: what it has by the task's metric.
        kept: share of the gap to the teacher that is left after development.
        deviation: of a developed score about what is expected, one standard deviation.
    """

    teacher_before: float
    teacher_after: float
    kept: float
    deviation: float

    @classmethod
    def of(
        cls,
        before: ArrayLike,
        after: ArrayLike,
        *,
        teacher_before: float,
        teacher_after: float,
    ) -> Expectation:
        """Learn from a race.

        The share is a ratio of sums, so that one racer with hardly any gap, whose own share is all
        chance, counts for hardly anything.

        Args:
            before: the racers' scores by the search, (N,).
            after: by the task's metric, as far as they were developed, (N,).
        """
        gap_before = np.maximum(teacher_before - np.asarray(before, float), 1e-6)
        gap_after = teacher_after - np.asarray(after, float)
        typical = float(gap_before.mean()) if len(gap_before) else 1.0
        prior = PRIOR_RACERS * typical
        kept = (PRIOR_KEPT * prior + gap_after.sum()) / (prior + gap_before.sum())
        left = gap_after - kept * gap_before
        deviation = float(np.sqrt((left**2).mean())) if len(left) else typical
        return cls(teacher_before, teacher_after, max(0.0, float(kept)), deviation)

    def __call__(self, scores: ArrayLike | Sequence[float]) -> FloatArray:
        """Expected scores after development of those before it, (N,); none is told below 0."""
        gap = self.teacher_before - np.asarray(scores, float)
        return np.maximum(0.0, self.teacher_after - self.kept * gap)


def once_developed(racers: Sequence[Sequence[float]], winner: float, teacher: float) -> list[float]:
    """What racers would have, had each been developed as long as the winner of their race.

    The gap to the teacher that one had when it left is taken to shrink as the winner's did from
    then on.

    Args:
        racers: the scores of each after every rung; the winner's come first.
        winner: its score once developed.
        teacher: the teacher's score.
    """
    first = racers[0]

    def share(rung: int) -> float:
        gap = teacher - first[rung]
        return float(np.clip((teacher - winner) / gap, 0.5, 1.0)) if gap > 0.005 else 1.0

    others = [teacher - (teacher - one[-1]) * share(len(one) - 1) for one in racers[1:]]
    return [winner, *others]
