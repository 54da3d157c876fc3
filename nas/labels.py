"""Whether a classification head predicts a task's labels, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import PretrainedConfig

from nas.data import Task
from supernet.errors import NasError


def check_labels(subject: str, config: PretrainedConfig, task: Task, advice: str = "") -> None:
    """Refuse a head for other labels than the task's.

    Args:
        subject: whose head it is, for the message.
        advice: what to do about it.

    Raises:
        NasError: another number of labels, or other names.
    """
    if config.num_labels != task.num_labels:
        raise NasError(
            f"{subject} predicts {config.num_labels} labels, the data has {task.num_labels}{advice}"
        )
    named = set(_label_ids(config))
    if _is_named(config) and task.label_names and named != set(task.label_names):
        raise NasError(
            f"{subject} predicts {_some(named)}, the data's labels are "
            f"{_some(task.label_names)}{advice}"
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


def _label_ids(config: PretrainedConfig) -> dict[str, int]:
    return {str(name): int(index) for index, name in (config.id2label or {}).items()}


def _is_named(config: PretrainedConfig) -> bool:
    return not all(name.startswith("LABEL_") for name in _label_ids(config))


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:5]) + (", ..." if len(ordered) > 5 else "")
