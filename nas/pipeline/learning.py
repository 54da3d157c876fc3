"""The data as they are read, the teacher, and the texts as it and all students read them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from nas.data.summary import told_of
from nas.data.task_data import TaskData, load_data, load_texts
from nas.data.tokenization import EncodedExamples, encode
from nas.models.finetune import finetune_on
from nas.models.outline import Outline, inspect_teacher
from nas.models.saving import save_model
from nas.models.teacher import digest as teacher_digest
from nas.models.teacher import load_teacher, teacher_scores
from nas.models.teacher_checks import check_head, check_reading
from nas.pipeline.request import Lesson
from nas.pipeline.stage import Stage
from nas.store.manifest import SCRATCH
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.tasks.chance import standing, teacher_doubt
from nas.tasks.task import Task
from nas.tasks.units import Units
from nas.terminal.progress import Display

SCORES = "scores.json"


@dataclass(frozen=True)
class EncodedTask:
    """A task's data, tokenized for its teacher."""

    data: TaskData
    tokenizer: PreTrainedTokenizerBase
    train: EncodedExamples
    validation: EncodedExamples
    test: EncodedExamples


def read_data(lesson: Lesson, display: Display) -> TaskData:
    """The task's data, split."""
    with display.bar("Read the data") as bar:
        data = load_data(
            lesson.data,
            text_columns=lesson.text_columns,
            label_column=lesson.label_column,
            metric=lesson.metric,
            seed=lesson.seed,
            limit=lesson.recipe.limit,
            validation_limit=lesson.recipe.validation_limit,
            progress=lambda _name, done, total: bar(done, total),
        )
    for line in told_of(data):
        display.say(f"data      {line}")
    return data


def teacher_outline(lesson: Lesson, data: TaskData) -> Outline:
    """The teacher's outline, checked against the task by its configuration.

    Raises:
        NasError: as :func:`nas.models.outline.inspect_teacher`.
    """
    length, labels = lesson.recipe.max_length, lesson.labels
    return inspect_teacher(lesson.teacher, data.task, max_length=length, labels=labels)


def check_teacher(lesson: Lesson, data: TaskData) -> None:
    """Load the teacher, and let it read a few texts, before anything is built on it.

    Raises:
        NasError: as :func:`nas.models.teacher.load_teacher` and
            :func:`nas.models.teacher_checks.check_reading`.
    """
    teacher = load_teacher(lesson.teacher, data.task, seed=lesson.seed, labels=lesson.labels)
    check_reading(lesson.teacher, teacher, data, lesson.recipe.max_length)


def teacher_stage(lesson: Lesson, data: TaskData) -> Stage:
    """Stage ``teacher``: stock BERT with a head for the task, its tokenizer and its scores.

    A teacher without a head is fine-tuned. That of a regression predicts what is learnt
    (:mod:`nas.tasks.units`).
    """
    finetune, length = lesson.recipe.finetune, lesson.recipe.max_length

    def build(folder: Path, display: Display) -> None:
        teacher = load_teacher(lesson.teacher, data.task, seed=lesson.seed, labels=lesson.labels)
        if teacher.has_head:
            with display.bar("Check the teacher's head"):
                check_head(lesson.teacher, teacher, data, length)
        else:
            if teacher.told:
                display.say(f"teacher   {teacher.told}")
            with display.bar("Fine-tune the teacher") as bar:
                finetune_on(
                    teacher, data, finetune, folder / SCRATCH,
                    max_length=length, seed=lesson.seed, progress=bar,
                )  # fmt: skip
        save_model(teacher.model, teacher.tokenizer, folder / MODEL)
        found = teacher_scores(teacher, data, length)
        (folder / SCORES).write_text(json.dumps(found))

    def lines(folder: Path) -> list[str]:
        value = read_scores(folder, "validation")[data.task.metric]
        return [f"teacher   {data.task.metric} {value:.4f} (validation)"]

    inputs: dict[str, Any] = {
        "teacher": teacher_digest(lesson.teacher),
        "data": data.digest,
        "metric": data.task.metric,  # by which it is told when the teacher has learnt enough
        "finetune": finetune.identity,
        "max_length": length,
        "seed": lesson.seed,
    }
    if data.task.units != Units():
        inputs["units"] = asdict(data.task.units)
    if lesson.labels is not None:
        inputs["labels"] = list(lesson.labels)
    return Stage(name="teacher", edition=1, inputs=inputs, build=build, lines=lines)


def doubt_of_teacher(teacher: Artifact, data: TaskData) -> str | None:
    """A line to warn of a teacher that has hardly learnt its task; None for one that has."""
    scores = read_scores(teacher.path, "validation")
    return teacher_doubt(standing(data.task, data.labels("validation"), "validation", scores))


def tokenize(data: TaskData, teacher: Artifact, max_length: int) -> EncodedTask:
    """All splits as the teacher and every student read them."""
    tokenizer = AutoTokenizer.from_pretrained(teacher.path / MODEL)
    units = data.task.units
    return EncodedTask(
        data,
        tokenizer,
        train=encode(data.train, tokenizer, max_length, units),
        validation=encode(data.validation, tokenizer, max_length, units),
        test=encode(data.test, tokenizer, max_length, units),
    )


def told_of_lengths(task: EncodedTask, max_length: int) -> list[str]:
    """A line on the texts that are as long as a model reads, if there are any."""
    full = sum(tokens == max_length for tokens in task.train.lengths) / len(task.train)
    if not full:
        return []
    return [
        f"{full:.1%} of training fill all of the recipe's {max_length} tokens (max_length); what "
        "is beyond is cut"
    ]


def unlabelled_texts(
    source: str, limit: int | None, lesson: Lesson, data: TaskData
) -> tuple[str, ...]:
    """Texts for task-agnostic training; of the task's own source, none that is held out.

    Args:
        source: as ``--data`` names data.
        limit: at most so many texts, drawn at random.
    """
    if source == lesson.data:
        texts = (*data.unlabelled, *data.train.text_a, *(data.train.text_b or ()))
    else:
        texts = load_texts(source)
    if limit is None or limit >= len(texts):
        return texts
    rows = np.random.default_rng(lesson.seed).permutation(len(texts))[:limit]
    return tuple(texts[row] for row in sorted(rows))


def read_score(artifact: Artifact, task: Task, split: str) -> float:
    """A teacher's or student's score by the task's metric on ``validation`` or ``test``."""
    return read_scores(artifact.path, split)[task.metric]


def read_scores(folder: Path, split: str) -> dict[str, float]:
    """A teacher's or student's scores on ``validation`` or ``test``, by metric."""
    scores: dict[str, dict[str, float]] = json.loads((folder / SCORES).read_text())
    return scores[split]
