"""Whether a score shows that something was learnt, or needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas.tasks.kind import Labels, Predictions
from nas.tasks.metrics import compute, score_in_words
from nas.tasks.task import Task

CHOSEN, UNSEEN = 3.0, 2.0
"""Standard errors within which a correlation may be chance: on validation, by which weights are
chosen, and on examples that no choice has seen. The best of many scores is higher by chance than
one: two errors expose 25 of 28 teachers that learnt random labels on validation, three errors all
of them."""


@dataclass(frozen=True)
class Standing:
    """A model's score beside what a constant answer scores.

    Args:
        above: whether the score is above the constant answer's, and the predictions go with the
            labels beyond chance; None where all examples have one label, which shows nothing.
        told: why the score is not above, for people; empty where there is nothing to say.
        advice: what to do about it, where that is known.
    """

    above: bool | None
    told: str = ""
    advice: str = ""


def standing(task: Task, labels: Labels, split: str, scores: Mapping[str, float]) -> Standing:
    """How a model's scores compare with those that need no model.

    Args:
        labels: of the split, (examples,).
        split: ``validation`` or ``test``.
        scores: by every metric of the task's kind.
    """
    score = scores[task.metric]
    if np.ptp(labels) == 0:
        return Standing(None)
    constant, answer = _constant(task, labels)
    found = scores[task.kind.correlation]
    errors = UNSEEN if split == "test" else CHOSEN
    is_chance = found < min(1.0, errors * task.kind.correlation_error(labels))
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
        f"with the labels ({task.kind.correlation} {found:.3f})"
    )
    return Standing(False, told, f"--metric {task.kind.correlation} shows and searches for that")


def doubt(task: Task, logits: Predictions, labels: Labels) -> str | None:
    """Why a ready head seems to predict other labels than the task's, or those in another order.

    Args:
        logits: (examples, outputs).
        labels: of the task, (examples,).

    Returns:
        What speaks for it and what to do; None where nothing does.
    """
    chance = 0.0 if np.ptp(labels) == 0 else UNSEEN * task.kind.correlation_error(labels)
    is_chance = compute(task.kind.correlation, logits, labels) < chance
    return task.kind.doubt(task.label_names, logits, labels, is_chance)


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
    """Lines against a result: one about the teacher, one about the model, or none."""
    of_teacher = teacher_doubt(teacher)
    lines = [] if of_teacher is None else [of_teacher]
    if model.above is False:
        advice = model.advice or "train it longer (distill in the recipe) or let it be larger"
        if of_teacher is not None:
            advice = "mend its teacher first"
        lines.append(f"the model's {model.told}; {advice}")
    return tuple(lines)


def baseline(task: Task, labels: Labels) -> float:
    """The score of the constant answer that scores best."""
    return _constant(task, labels)[0]


def _constant(task: Task, labels: Labels) -> tuple[float, str]:
    return task.kind.constant(task.kind.metric(task.metric), task.label_names, labels)
