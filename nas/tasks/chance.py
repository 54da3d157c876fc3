"""Whether a score tells that something was learnt, or is one that needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas.tasks.metrics import compute, score_in_words
from nas.tasks.task import Task

if TYPE_CHECKING:
    from nas.data.task_data import TaskData

CHOSEN, UNSEEN = 3.0, 2.0
"""Standard errors within which a correlation may be chance: on validation, by which weights are
chosen, and on examples that no choice has seen. The best of many scores is higher by chance than
one: of 28 teachers that learnt random labels, two errors told 25 on validation, three all."""

_LONGEST_NAME = 40


@dataclass(frozen=True)
class Standing:
    """A model's score beside what a constant answer scores.

    Args:
        above: whether the score is above that, and the predictions go with the labels beyond
            chance; None where all examples have one label, which tells nothing.
        told: why it is not above, for people; empty where there is nothing to say.
        advice: what to do about it, where that is known.
    """

    above: bool | None
    told: str = ""
    advice: str = ""


def standing(data: TaskData, split: str, scores: Mapping[str, float]) -> Standing:
    """How a model's scores on ``validation`` or ``test`` stand to those that need no model.

    Args:
        scores: by every metric of the task's kind.
    """
    task, labels = data.task, np.asarray(data.splits[split].labels)
    score = scores[task.metric]
    constant, answer = _constant(task, labels)
    if np.ptp(labels) == 0:
        return Standing(None)
    found = scores["pearson_spearman" if task.kind == "regression" else "matthews"]
    errors = UNSEEN if split == "test" else CHOSEN
    within = errors * correlation_error(task, labels)
    is_chance = found < min(1.0, within)
    if not is_chance and score > constant:
        return Standing(True)
    what = f"{task.metric} of {score_in_words(task.metric, score)}"
    where = f"on {len(labels)} examples of {split}"
    theirs = score_in_words(task.metric, constant)
    if is_chance:
        told = f"{what} {where} cannot be told from chance: {answer} scores {theirs}"
        return Standing(False, told)
    told = (
        f"{what} {where} is no more than {answer} scores, {theirs}, though its predictions go "
        f"with the labels (matthews {found:.3f})"
    )
    return Standing(False, told, "--metric matthews shows and searches for that")


def correlation_error(task: Task, labels: NDArray[Any]) -> float:
    """The standard error, at the most, of a correlation with predictions that know nothing.

    Under permutation of n examples the variance of Pearson's is 1 / (n - 1). Matthews', of class
    indicators x and y, has tr(Σx Σy) / (tr Σx tr Σy) times that. Whatever x is predicted, this is
    λ / tr Σy at the most, with Σy's largest eigenvalue λ, and that the largest class's share.

    Args:
        labels: at least two, not all the same.
    """
    of_values = 1 / np.sqrt(len(labels) - 1)
    if task.kind == "regression":
        return float(of_values)
    shares = np.bincount(labels) / len(labels)
    return float(of_values * np.sqrt(min(1.0, shares.max() / (1 - (shares**2).sum()))))


def teacher_doubt(found: Standing) -> str | None:
    """A line that a teacher has learnt nothing that shows, and what to do."""
    if found.above is not False:
        return None
    advice = found.advice or (
        "train it longer (epochs of finetune in the recipe) or on more examples, and look whether "
        "its labels and text columns are the right ones"
    )
    return f"the teacher's {found.told}; {advice}"


def doubts(model: Standing, teacher: Standing) -> tuple[str, ...]:
    """What is to be said against a result: a line of the teacher, one of the model, or none."""
    of_teacher = teacher_doubt(teacher)
    lines = [] if of_teacher is None else [of_teacher]
    if model.above is False:
        advice = model.advice or "train it longer (distill in the recipe) or let it be larger"
        if of_teacher is not None:
            advice = "mend its teacher first"
        lines.append(f"the model's {model.told}; {advice}")
    return tuple(lines)


def baseline(data: TaskData, split: str) -> float:
    """What a constant answer scores on a split at best."""
    return _constant(data.task, np.asarray(data.splits[split].labels))[0]


def _constant(task: Task, labels: NDArray[Any]) -> tuple[float, str]:
    """The score of the constant answer that scores best, and that answer."""
    if task.kind == "regression":
        return 0.0, "a constant"
    counts = np.bincount(labels, minlength=task.num_labels)
    # F1 of two classes is the second's alone; everywhere else the largest class is the best guess.
    answer = 1 if task.metric == "f1" and task.num_labels == 2 else int(counts.argmax())
    answers = np.broadcast_to(np.arange(task.num_labels) == answer, (len(labels), task.num_labels))
    name = task.label_names[answer]
    shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    return compute(task.metric, answers, labels), f"always answering {shown!r}"
