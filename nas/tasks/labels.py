"""Whether a head predicts a task's labels, in which order, and a regression's in which units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig

from nas.tasks.chance import UNSEEN, correlation_error
from nas.tasks.metrics import compute
from nas.tasks.task import Task
from nas.tasks.units import Units
from supernet.errors import NasError, shown

FAR_BETTER = 0.1
"""More accuracy than this, beyond three standard errors, under another order of the classes means
that the head has that order."""


def check_labels(
    subject: str, config: PretrainedConfig, task: Task, advice: str = "", *, renaming: str = ""
) -> None:
    """Refuse a head for other labels than the task's.

    Args:
        subject: whose head it is, for the message.
        advice: what to do about it.
        renaming: what to do where the classes may be the same under other names.

    Raises:
        NasError: another number of labels, or other names.
    """
    if config.num_labels != task.num_labels:
        raise NasError(
            f"{subject} predicts {config.num_labels} labels, the data has {task.num_labels}{advice}"
        )
    if set(config.id2label or {}) != set(range(task.num_labels)):
        numbers = shown(sorted(config.id2label or {}))
        raise NasError(
            f"{subject}: id2label in config.json has the numbers {numbers}; they must be from 0 to "
            f"{task.num_labels - 1}"
        )
    named = set(_label_ids(config))
    if _is_named(config) and task.label_names and named != set(task.label_names):
        raise NasError(
            f"{subject} predicts {_some(named)}, the data's labels are "
            f"{_some(task.label_names)}{renaming}{advice}"
        )


def align_labels(model: Any, task: Task) -> list[int]:
    """Put a checked head's rows in the order of the task's labels, where it names its own.

    The configuration then names them in that order too.

    Args:
        model: a BERT or TailorBERT classifier.

    Returns:
        Where its logits stood before, by the place at which they stand now.
    """
    if not (task.label_names and _is_named(model.config)):
        return list(range(model.config.num_labels))
    rows = [_label_ids(model.config)[name] for name in task.label_names]
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight[rows])
        model.classifier.bias.copy_(model.classifier.bias[rows])
    model.config.id2label = dict(enumerate(task.label_names))
    model.config.label2id = {name: index for index, name in enumerate(task.label_names)}
    return rows


def classes_of(config: PretrainedConfig) -> tuple[str, ...] | None:
    """The names of a head's classes in its order; none for a regression's, None where it has no
    names for them.
    """
    if config.num_labels == 1:
        return ()
    return tuple(_label_ids(config)) if _is_named(config) else None


def name_labels(subject: str, config: PretrainedConfig, labels: Sequence[str]) -> None:
    """Give the classes of a head the names that a user says they have, in the head's order.

    Raises:
        NasError: another number of names than classes, or a name twice.
    """
    if len(labels) != config.num_labels:
        raise NasError(
            f"labels: {len(labels)} names were given ({_some(labels)}), and {subject} has "
            f"{config.num_labels} classes"
        )
    if len(set(labels)) < len(labels):
        raise NasError(f"labels: a name is given twice ({', '.join(labels)})")
    config.id2label = dict(enumerate(labels))
    config.label2id = {name: index for index, name in enumerate(labels)}


@torch.no_grad()
def predict_values(model: Any, units: Units) -> None:
    """Have a regressor that was trained on what is learnt predict the values, in place.

    Args:
        model: a BERT or TailorBERT classifier.
    """
    head = model.classifier
    head.weight.mul_(units.scale)
    head.bias.copy_(units.offset + units.scale * head.bias.double())


@torch.no_grad()
def predict_learnt(model: Any, units: Units) -> None:
    """The other way round: of a regressor that predicts values, what is learnt, in place."""
    head = model.classifier
    head.weight.div_(units.scale)
    head.bias.copy_((head.bias.double() - units.offset) / units.scale)


def doubt(task: Task, logits: NDArray[np.floating[Any]], labels: NDArray[Any]) -> str | None:
    """Why a head seems to predict other labels than the task's, or those in another order.

    Args:
        logits: of a ready head, (examples, labels).
        labels: of the task, (examples,).

    Returns:
        What speaks for it and what to do; None where nothing does.
    """
    chance = 0.0 if np.ptp(labels) == 0 else UNSEEN * correlation_error(task, labels)
    if task.kind == "regression":
        found = compute("pearson_spearman", logits, labels)
        if found >= chance:
            return None
        return (
            f"its predictions and the data's values correlate by {found:.2f} on "
            f"{len(labels)} examples, which is no better than chance"
        )
    predicted = logits.argmax(axis=1)
    accuracy = float((predicted == labels).mean())
    order, reordered = _best_order(predicted, labels, task.num_labels)
    error = np.sqrt(reordered * (1 - reordered) / len(labels))
    if reordered - accuracy > FAR_BETTER + 3 * error:
        names = ",".join(task.label_names[label] for label in order)
        return (
            f"its accuracy is {accuracy:.1%} on {len(labels)} examples, and {reordered:.1%} were "
            f"its classes in another order: give the names in its order, --labels {names!r} as "
            "it seems"
        )
    if compute("matthews", logits, labels) < chance:
        return (
            f"its accuracy is {accuracy:.1%} on {len(labels)} examples, which is no better than "
            "chance: it was trained for something else, or reads texts of another kind"
        )
    return None


def _best_order(
    predicted: NDArray[np.intp], labels: NDArray[Any], classes: int
) -> tuple[list[int], float]:
    """The class that each output stands for best, and the accuracy then."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (predicted, labels), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return columns.tolist(), float(counts[rows, columns].sum() / len(labels))


def _label_ids(config: PretrainedConfig) -> dict[str, int]:
    """By their names, in the head's order."""
    return {str(name): int(index) for index, name in sorted((config.id2label or {}).items())}


def _is_named(config: PretrainedConfig) -> bool:
    return not all(name.startswith("LABEL_") for name in _label_ids(config))


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
