"""What an uploaded teacher scores on data before anything is trained; this code runs confined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

EXAMPLES = 200
"""How many validation examples are read; a BERT-base takes a minute of one core for them."""

MAX_LENGTH = 128

NEEDS = ("nas.models.teacher_checks", "nas.tasks.chance", "nas.data.summary")
"""Imported before the process is confined: these libraries load others."""


def try_teacher(
    teacher: str,
    data: str,
    text_columns: Sequence[str] | None,
    label_column: str,
    metric: str | None,
    labels: Sequence[str] | None,
) -> dict[str, Any]:
    """The score of a teacher's head on some validation examples, read as a search would read them.

    Args:
        teacher, data: folders.
        text_columns, label_column, metric: as of :func:`nas.data.task_data.load_data`.
        labels: as of :func:`nas.models.teacher.load_teacher`.

    Returns:
        ``data``, lines about what was read; ``metric``; ``examples``; ``score``, None where a
        search trains a new head; ``baseline_score``, of the constant answer; ``doubt``, why a
        search would refuse the head, or None.

    Raises:
        NasError: the data cannot be read in this way, or the teacher does not fit them.
    """
    import torch

    from nas.data.summary import told_of
    from nas.data.task_data import load_data
    from nas.data.tokenization import encode
    from nas.models.teacher import load_teacher
    from nas.models.teacher_checks import check_reading
    from nas.tasks.chance import baseline, doubt
    from nas.tasks.metrics import compute

    torch.set_num_threads(1)
    found = load_data(
        data, text_columns=text_columns, label_column=label_column, metric=metric, seed=0
    )
    task = found.task
    told = {
        "data": told_of(found),
        "metric": task.metric,
        "baseline_score": baseline(task, found.labels("validation")),
        "examples": 0,
        "score": None,
        "doubt": None,
    }
    loaded = load_teacher(teacher, task, seed=0, labels=labels)
    length = min(MAX_LENGTH, loaded.model.config.max_position_embeddings)
    check_reading(teacher, loaded, found, length)
    if not loaded.has_head:
        return told
    some = found.validation.take(range(min(EXAMPLES, len(found.validation))))
    logits = loaded.predict(encode(some, loaded.tokenizer, length))
    values = found.labels("validation")[: len(some)]
    return told | {
        "examples": len(some),
        "score": compute(task.metric, logits, values),
        "doubt": doubt(task, logits, values),
    }
