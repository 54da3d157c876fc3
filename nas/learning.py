"""The stages that learn before a search: teacher and supernet."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from nas.data import Examples, Task, TaskData, load_data, load_texts
from nas.evaluate import collator
from nas.labels import align_labels, check_labels
from nas.manifest import SCRATCH
from nas.request import Study, origin
from nas.result_folder import MODEL
from nas.teacher import digest as teacher_digest
from nas.teacher import finetune, load_teacher, teacher_scores
from nas.tokenization import EncodedExamples, encode
from nas.workspace import Artifact
from supernet.errors import NasError
from supernet.importance import measure_importance, reorder
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace, trimmed
from supernet.training import Progress

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
                finetune(
                    teacher,
                    encode(data.train, teacher.tokenizer, run.request.recipe.max_length),
                    collator(teacher.tokenizer),
                    run.request.recipe.finetune,
                    folder,
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


class Train(Protocol):
    """Trains a supernet in place, in this process or on a cluster, as :class:`SandwichTrainer`."""

    def __call__(
        self,
        supernet: Supernet,
        teacher: Supernet,
        space: SearchSpace,
        data: EncodedExamples,
        collate: Callable[[list[Any]], dict[str, Tensor]],
        settings: SandwichSettings,
        folder: Path,
        *,
        seed: int,
        progress: Progress,
    ) -> None: ...


def train_here(*lesson: Any, **options: Any) -> None:
    """Train in this process."""
    SandwichTrainer(*lesson, **options).run()


def train_supernet(
    run: Study,
    space: SearchSpace,
    teacher: Artifact,
    task: EncodedTask,
    training: Train = train_here,
    processes: int = 1,
) -> Artifact:
    """Artifact ``supernet``: the teacher ordered by importance, trained by the sandwich rule.

    Args:
        training: where it learns.
        processes: that learn together; each draws random sub-networks of its own.
    """
    recipe = run.request.recipe
    whole = space.whole
    collate = collator(task.tokenizer)
    texts: tuple[str, ...] = ()
    if recipe.general is not None:
        texts = unlabelled_texts(run, recipe.general.texts, task, recipe.general.limit)

    def train(
        supernet: Supernet,
        guide: Supernet,
        title: str,
        data: EncodedExamples,
        settings: SandwichSettings,
        folder: Path,
    ) -> Supernet:
        """One training, whose result stands in ``folder`` when it has ended."""
        trained = folder / "trained"
        if not trained.is_dir():
            with run.display.stage(title) as bar:
                training(
                    supernet, guide, whole, data, collate, settings, folder,
                    seed=run.request.seed, progress=bar,
                )  # fmt: skip
            supernet.save_pretrained(folder / "trained.tmp")
            os.replace(folder / "trained.tmp", trained)
        return Supernet.from_pretrained(trained)

    def build(folder: Path) -> None:
        guide = ordered_supernet(run, teacher, task)
        supernet = deepcopy(guide)
        scratch = folder / SCRATCH
        if recipe.general is not None:
            encoded = encode(Examples(texts), task.tokenizer, recipe.max_length)
            supernet = train(
                supernet, guide, "Train the supernet on unlabelled text", encoded,
                recipe.general.settings, scratch / "general",
            )  # fmt: skip
        supernet = train(
            supernet, guide, "Train the supernet on the task", task.train, recipe.supernet,
            scratch / "task",
        )  # fmt: skip
        supernet.save_pretrained(folder / MODEL)

    inputs: dict[str, Any] = {
        "teacher": teacher.key,
        "data": task.data.digest,
        "space": {key: value for key, value in whole.to_dict().items() if key != "name"},
        "importance_examples": recipe.importance_examples,
        "general": recipe.general and recipe.general.model_dump(mode="json"),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "supernet": asdict(recipe.supernet),
        "seed": run.request.seed,
    }
    if processes > 1:
        inputs["processes"] = processes
    supernet = run.workspace.artifact("supernet", inputs, build)
    run.display.say(
        f"supernet  {whole.size:,} sub-networks of space {space.name}{origin(supernet)}"
    )
    return supernet


def given_supernet(
    run: Study, folder: Path, space: SearchSpace, teacher: Artifact, task: EncodedTask
) -> Artifact:
    """Artifact ``supernet``: one that was trained elsewhere, of the same teacher and task.

    Args:
        folder: as :meth:`supernet.model.Supernet.save_pretrained` writes it.

    Raises:
        NasError: other labels than the task's, smaller than the space, or of another tokenizer.
    """
    supernet = Supernet.from_pretrained(folder)
    check_labels("the supernet", supernet.weights.config, task.data.task)
    align_labels(supernet.weights, task.data.task)
    config, length = supernet.weights.config, run.request.recipe.max_length
    if config.vocab_size < len(task.tokenizer) or config.max_position_embeddings < length:
        raise NasError(
            f"supernet: it reads {config.vocab_size} tokens at {config.max_position_embeddings} "
            f"positions, and the teacher's tokenizer has {len(task.tokenizer)}, the recipe {length}"
        )
    if trimmed(space, supernet.largest) != space:
        raise NasError(
            f"supernet: space {space.name} holds more than its {supernet.largest}; choose a space "
            "with smaller architectures"
        )

    def build(place: Path) -> None:
        supernet.save_pretrained(place / MODEL)

    inputs = {
        "given": teacher_digest(str(folder)),
        "teacher": teacher.key,  # whose tokenizer and lengths the sub-networks are scored with
        "data": task.data.digest,
        "seed": run.request.seed,
    }
    given = run.workspace.artifact("supernet", inputs, build)
    run.display.say(f"supernet  {space.whole.size:,} sub-networks, as given{origin(given)}")
    return given


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


def ordered_supernet(run: Study, teacher: Artifact, task: EncodedTask) -> Supernet:
    """The teacher as a supernet whose leading slices hold its most important units.

    Its units stand where the trained supernet's and every student's do, so it is what their hidden
    states are compared with; its function is the teacher's.
    """
    supernet = Supernet.from_pretrained(teacher.path / MODEL)
    generator = torch.Generator().manual_seed(run.request.seed)
    batches = sample_batches(run, task)
    reorder(supernet.weights, measure_importance(supernet.weights, batches, generator=generator))
    return supernet


def sample_batches(
    run: Study, task: EncodedTask, most: int | None = None
) -> list[dict[str, Tensor]]:
    """Training texts drawn at random, on which the teacher's activations are studied.

    Args:
        most: of them; no more than the recipe's ``importance_examples`` in any case.
    """
    rows = np.random.default_rng(run.request.seed).permutation(len(task.train))
    rows = rows[: run.request.recipe.importance_examples][:most]
    collate = collator(task.tokenizer)
    batches = []
    for start in range(0, len(rows), 32):
        batch = collate([task.train[int(row)] for row in rows[start : start + 32]])
        batch.pop("labels", None)
        batches.append(batch)
    return batches


def read_score(artifact: Artifact, task: Task, split: str) -> float:
    """A teacher's or student's score by the task's metric on ``validation`` or ``test``."""
    scores = json.loads((artifact.path / SCORES).read_text())
    return float(scores[split][task.metric])
