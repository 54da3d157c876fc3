"""How good a model's predictions are, told with less chance than the task's metric alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.tasks.kinds import kind_of_metric
from nas.tasks.metrics import compute

Floats = NDArray[np.floating]


def agreement(metric: str, logits: Floats, teacher: Floats) -> float:
    """The metric against the teacher's predictions for labels: 1 where they are the same.

    Any texts will do, for no labels are needed.

    Args:
        logits, teacher: (examples, num_labels), of the student and its teacher.
    """
    return compute(metric, logits, kind_of_metric(metric).decide(teacher))


def quality(metric: str, logits: Floats, teacher: Floats, labels: NDArray[np.generic]) -> float:
    """The metric against the labels and against the teacher's predictions, halved and added.

    Both tell the same of a student, on the same texts, with chance that is partly another's; the
    teacher's predictions are the smoother judge where it is mostly right.

    Args:
        logits, teacher: (examples, num_labels), of the student and its teacher.
        labels: (examples,)
    """
    return (compute(metric, logits, labels) + agreement(metric, logits, teacher)) / 2
