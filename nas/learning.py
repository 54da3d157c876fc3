"""The data as they are read, the teacher, and the texts as it and all students read them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from nas.data import Task, TaskData, load_data, load_texts
from nas.manifest import SCRATCH
from nas.request import Study, origin
from nas.result_folder import MODEL
from nas.teacher import digest as teacher_digest
from nas.teacher import finetune_on, load_teacher, teacher_scores
from nas.tokenization import EncodedExamples, encode
from nas.workspace import Artifact

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
    splits = (data.train, data.validation, data.test)
    run.display.say(
        f"data      {data.task.name}: {' + '.join(str(len(split)) for split in splits)} examples "
        f"(train, validation, test), {data.task.metric}"
    )
    return data


def prepare_teacher(run: Study, data: TaskData) -> Artifact:
    """Artifact ``teacher``: stock BERT with a head for the task, its tokenizer and its scores."""

    def build(folder: Path) -> None:
        teacher = load_teacher(run.request.teacher, data.task, seed=run.request.seed)
        if not teacher.has_head:
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

    inputs = {
        "teacher": teacher_digest(run.request.teacher),
        "data": data.digest,
        "metric": data.task.metric,  # by which it is told when the teacher has learnt enough
        "finetune": asdict(run.request.recipe.finetune),
        "max_length": run.request.recipe.max_length,
        "seed": run.request.seed,
    }
    teacher = run.workspace.artifact("teacher", inputs, build)
    value = read_score(teacher, data.task, "validation")
    run.display.say(f"teacher   {data.task.metric} {value:.4f} (validation){origin(teacher)}")
    return teacher


def tokenize(run: Study, data: TaskData, teacher: Artifact) -> EncodedTask:
    """All splits as the teacher and every student read them."""
    tokenizer = AutoTokenizer.from_pretrained(teacher.path / MODEL)
    length = run.request.recipe.max_length
    return EncodedTask(
        data,
        tokenizer,
        train=encode(data.train, tokenizer, length),
        validation=encode(data.validation, tokenizer, length),
        test=encode(data.test, tokenizer, length),
    )


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
    scores = json.loads((artifact.path / SCORES).read_text())
    return float(scores[split][task.metric])
