"""A head's labels: whether they are the task's, and in the task's order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nas.tasks.kinds import KINDS, Head
from nas.tasks.task import Task
from supernet.errors import NasError, shown

if TYPE_CHECKING:
    from transformers import PretrainedConfig


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
    for parameter in (model.classifier.weight.data, model.classifier.bias.data):
        parameter.copy_(parameter[rows])
    model.config.id2label = dict(enumerate(task.label_names))
    model.config.label2id = {name: index for index, name in enumerate(task.label_names)}
    return rows


def head_of(config: PretrainedConfig) -> Head | None:
    """What a trained head predicts; None where it has classes without names."""
    fitting = [kind for kind in KINDS if kind.has_width(config.num_labels)]
    kind = max(fitting, key=lambda kind: kind.problem_type == config.problem_type)  # else the first
    if kind.outputs is not None:
        return Head(kind, ())
    return Head(kind, tuple(_label_ids(config))) if _is_named(config) else None


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


def _label_ids(config: PretrainedConfig) -> dict[str, int]:
    """The number of each output by its name, in the head's order."""
    return {str(name): int(index) for index, name in sorted((config.id2label or {}).items())}


def _is_named(config: PretrainedConfig) -> bool:
    return not all(name.startswith("LABEL_") for name in _label_ids(config))


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
