"""The stage that makes the supernet: trained here or on a cluster, given, or left untrained."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from nas.data.task_data import Examples
from nas.data.tokenization import EncodedExamples, encode
from nas.models.evaluate import collator
from nas.models.teacher import digest as teacher_digest
from nas.pipeline.guide import Guide
from nas.pipeline.learning import EncodedTask, unlabelled_texts
from nas.pipeline.request import Lesson
from nas.pipeline.stage import Stage
from nas.store.manifest import SCRATCH
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.tasks.labels import align_labels, check_labels
from nas.terminal.progress import Display
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace, trimmed
from supernet.training import Progress

EDITION = 2
"""Of what a supernet is: raised when the same recipe comes to train another one."""


class Train(Protocol):
    """Trains a supernet in place, as :class:`SandwichTrainer` does, here or on a cluster."""

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


def trained_supernet_stage(
    lesson: Lesson,
    space: SearchSpace,
    teacher: Artifact,
    task: EncodedTask,
    guide: Guide,
    training: Train = train_here,
    processes: int = 1,
) -> Stage:
    """Stage ``supernet``: the teacher ordered by importance, trained by the sandwich rule.

    A recipe without a ``supernet`` leaves it untrained: its sub-networks are fitted to the teacher
    before they are scored.

    Args:
        training: where it learns.
        processes: that learn together; each draws random sub-networks of its own.
    """
    recipe, settings, whole = lesson.recipe, lesson.recipe.supernet, space.whole
    if settings is None:
        return _untrained(lesson, teacher, guide)
    texts: tuple[str, ...] = ()
    if recipe.general is not None:
        texts = unlabelled_texts(recipe.general.texts, recipe.general.limit, lesson, task.data)

    def build(folder: Path, display: Display) -> None:
        supernet = deepcopy(guide.supernet)
        supernet.requires_grad_(True)  # whoever learnt from the teacher before has frozen it
        scratch = folder / SCRATCH
        collate = collator(task.tokenizer)
        trainings: list[tuple[str, str, EncodedExamples, SandwichSettings]] = []
        if recipe.general is not None:
            encoded = encode(Examples(texts), task.tokenizer, recipe.max_length)
            trainings.append(("general", "unlabelled text", encoded, recipe.general.settings))
        trainings.append(("task", "the task", task.train, settings))
        for name, what, data, how in trainings:
            trained = scratch / name / "trained"  # stands when this training has ended
            if not trained.is_dir():
                with display.bar(f"Train the supernet on {what}") as bar:
                    training(
                        supernet, guide.supernet, whole, data, collate, how, scratch / name,
                        seed=lesson.seed, progress=bar,
                    )  # fmt: skip
                supernet.save_pretrained(scratch / name / "trained.tmp")
                os.replace(scratch / name / "trained.tmp", trained)
            supernet = Supernet.from_pretrained(trained)
        supernet.save_pretrained(folder / MODEL)

    inputs: dict[str, Any] = {
        "teacher": teacher.key,
        "data": task.data.digest,
        "space": {key: value for key, value in whole.to_dict().items() if key != "name"},
        "importance_examples": recipe.importance_examples,
        "general": recipe.general and recipe.general.model_dump(mode="json"),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "supernet": asdict(settings),
        "seed": lesson.seed,
    }
    if processes > 1:
        inputs["processes"] = processes
    return Stage(
        name="supernet",
        edition=EDITION,
        inputs=inputs,
        build=build,
        lines=lambda _: [f"supernet  {whole.size:,} sub-networks of space {space.name}"],
    )


def _untrained(lesson: Lesson, teacher: Artifact, guide: Guide) -> Stage:
    inputs = {
        "untrained": True,
        "teacher": teacher.key,
        "importance_examples": lesson.recipe.importance_examples,
        "seed": lesson.seed,
    }
    return Stage(
        name="supernet",
        edition=EDITION,
        inputs=inputs,
        build=lambda folder, _: guide.supernet.save_pretrained(folder / MODEL),
    )


def given_supernet_stage(
    folder: Path, lesson: Lesson, space: SearchSpace, teacher: Artifact, task: EncodedTask
) -> Stage:
    """Stage ``supernet``: one that was trained elsewhere, of the same teacher and task.

    Args:
        folder: as :meth:`supernet.model.Supernet.save_pretrained` writes it.

    Raises:
        NasError: other labels than the task's, smaller than the space, or of another tokenizer.
    """
    supernet = Supernet.from_pretrained(folder)
    check_labels("the supernet", supernet.weights.config, task.data.task)
    align_labels(supernet.weights, task.data.task)
    config, length = supernet.weights.config, lesson.recipe.max_length
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
    inputs = {
        "given": teacher_digest(str(folder)),
        "teacher": teacher.key,  # whose tokenizer and lengths the sub-networks are scored with
        "data": task.data.digest,
        "seed": lesson.seed,
    }
    return Stage(
        name="supernet",
        edition=1,
        inputs=inputs,
        build=lambda place, _: supernet.save_pretrained(place / MODEL),
        lines=lambda _: [f"supernet  {space.whole.size:,} sub-networks, as given"],
    )
