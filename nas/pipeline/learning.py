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
from nas.models.teacher import (
    Outline,
    check_head,
    check_reading,
    finetune_on,
    inspect_teacher,
    load_teacher,
    teacher_scores,
)
from nas.models.teacher import digest as teacher_digest
from nas.pipeline.request import Study, origin
from nas.store.manifest import SCRATCH
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.tasks.chance import standing, teacher_doubt
from nas.tasks.task import Task
from nas.tasks.units import Units

SCORES = "scores.json"


@dataclass(frozen=True)
class EncodedTask:
    """A task's data, tokenized for its teacher."""

    data: TaskData
    tokenizer: PreTrainedTokenizerBase
    train: EncodedExamples
    validation: EncodedExamples
    test: EncodedExamples


def read_data(run: Study) -> TaskData:
    """The task's data, split."""
    with run.display.stage("Read the data") as bar:
        data = load_data(
            run.request.data,
            text_columns=run.request.text_columns,
            label_column=run.request.label_column,
            metric=run.request.metric,
            seed=run.request.seed,
            limit=run.request.recipe.limit,
            progress=lambda _name, done, total: bar(done, total),
        )
    for line in told_of(data):
        run.display.say(f"data      {line}")
    return data


def teacher_outline(run: Study, data: TaskData) -> Outline:
    """The teacher's outline, and whether all that comes will work with it.

    Raises:
        NasError: as :func:`nas.models.teacher.inspect_teacher` and
            :func:`nas.models.teacher.check_reading`.
    """
    request, length = run.request, run.request.recipe.max_length
    found = inspect_teacher(request.teacher, data.task, max_length=length, labels=request.labels)
    if not run.workspace.has("teacher", _inputs(run, data)):  # else it has been put to work
        teacher = load_teacher(request.teacher, data.task, seed=request.seed, labels=request.labels)
        check_reading(request.teacher, teacher, data, length)
    return found


def _inputs(run: Study, data: TaskData) -> dict[str, Any]:
    """What makes a teacher's artifact the one that it is."""
    request = run.request
    inputs: dict[str, Any] = {
        "teacher": teacher_digest(request.teacher),
        "data": data.digest,
        "metric": data.task.metric,  # by which it is told when the teacher has learnt enough
        "finetune": asdict(request.recipe.finetune),
        "max_length": request.recipe.max_length,
        "seed": request.seed,
    }
    if data.task.units != Units():
        inputs["units"] = asdict(data.task.units)
    if request.labels is not None:
        inputs["labels"] = list(request.labels)
    return inputs


def prepare_teacher(run: Study, data: TaskData) -> Artifact:
    """Artifact ``teacher``: stock BERT with a head for the task, its tokenizer and its scores.

    That of a regression predicts what is learnt (:mod:`nas.tasks.units`).
    """

    def build(folder: Path) -> None:
        request = run.request
        teacher = load_teacher(request.teacher, data.task, seed=request.seed, labels=request.labels)
        if teacher.has_head:
            with run.display.stage("Check the teacher's head"):
                check_head(request.teacher, teacher, data, request.recipe.max_length)
        else:
            if teacher.told:
                run.display.say(f"teacher   {teacher.told}")
            with run.display.stage("Fine-tune the teacher") as bar:
                finetune_on(
                    teacher,
                    data,
                    run.request.recipe.finetune,
                    folder / SCRATCH,
                    max_length=run.request.recipe.max_length,
                    seed=run.request.seed,
                    progress=bar,
                )
        teacher.model.save_pretrained(folder / MODEL)
        teacher.tokenizer.save_pretrained(folder / MODEL)
        found = teacher_scores(teacher, data, run.request.recipe.max_length)
        (folder / SCORES).write_text(json.dumps(found))

    teacher = run.workspace.artifact("teacher", _inputs(run, data), build)
    found = read_scores(teacher, "validation")
    value = found[data.task.metric]
    run.display.say(f"teacher   {data.task.metric} {value:.4f} (validation){origin(teacher)}")
    doubt = teacher_doubt(standing(data.task, data.labels("validation"), "validation", found))
    if doubt is not None:
        run.display.warn(doubt)
    return teacher


def tokenize(run: Study, data: TaskData, teacher: Artifact) -> EncodedTask:
    """All splits as the teacher and every student read them."""
    tokenizer = AutoTokenizer.from_pretrained(teacher.path / MODEL)
    length, units = run.request.recipe.max_length, data.task.units
    encoded = EncodedTask(
        data,
        tokenizer,
        train=encode(data.train, tokenizer, length, units),
        validation=encode(data.validation, tokenizer, length, units),
        test=encode(data.test, tokenizer, length, units),
    )
    for line in told_of_lengths(encoded, length):
        run.display.say(f"texts     {line}")
    return encoded


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
    run: Study, source: str, task: EncodedTask, limit: int | None
) -> tuple[str, ...]:
    """Texts for task-agnostic training; of the task's own source, none that is held out.

    Args:
        limit: so many of them at the most, drawn at random.
    """
    if source == run.request.data:
        train = task.data.train
        texts = (*task.data.unlabelled, *train.text_a, *(train.text_b or ()))
    else:
        texts = load_texts(source)
    if limit is None or limit >= len(texts):
        return texts
    rows = np.random.default_rng(run.request.seed).permutation(len(texts))[:limit]
    return tuple(texts[row] for row in sorted(rows))


def read_score(artifact: Artifact, task: Task, split: str) -> float:
    """A teacher's or student's score by the task's metric on ``validation`` or ``test``."""
    return read_scores(artifact, split)[task.metric]


def read_scores(artifact: Artifact, split: str) -> dict[str, float]:
    """A teacher's or student's scores on ``validation`` or ``test``, by metric."""
    scores: dict[str, dict[str, float]] = json.loads((artifact.path / SCORES).read_text())
    return scores[split]
