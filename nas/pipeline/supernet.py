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
from nas.pipeline.request import Study, origin
from nas.store.manifest import SCRATCH
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.tasks.labels import align_labels, check_labels
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.sandwich import SandwichTrainer
from supernet.sandwich_settings import SandwichSettings
from supernet.space import SearchSpace, trimmed
from supernet.training import Progress

EDITION = 2
"""Of what a supernet is: raised when the same recipe comes to train another one."""


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
    guide: Guide,
    training: Train = train_here,
    processes: int = 1,
) -> Artifact:
    """Artifact ``supernet``: the teacher ordered by importance, trained by the sandwich rule.

    A recipe without a ``supernet`` leaves it untrained: its sub-networks are fitted to the teacher
    before they are scored.

    Args:
        training: where it learns.
        processes: that learn together; each draws random sub-networks of its own.
    """
    recipe, settings = run.request.recipe, run.request.recipe.supernet
    whole = space.whole
    if settings is None:
        return _untrained(run, teacher, guide)
    collate = collator(task.tokenizer)
    texts: tuple[str, ...] = ()
    if recipe.general is not None:
        texts = unlabelled_texts(run, recipe.general.texts, task, recipe.general.limit)

    def train(
        supernet: Supernet,
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
                    supernet, guide.supernet, whole, data, collate, settings, folder,
                    seed=run.request.seed, progress=bar,
                )  # fmt: skip
            supernet.save_pretrained(folder / "trained.tmp")
            os.replace(folder / "trained.tmp", trained)
        return Supernet.from_pretrained(trained)

    def build(folder: Path) -> None:
        supernet = deepcopy(guide.supernet)
        scratch = folder / SCRATCH
        if recipe.general is not None:
            encoded = encode(Examples(texts), task.tokenizer, recipe.max_length)
            supernet = train(
                supernet, "Train the supernet on unlabelled text", encoded,
                recipe.general.settings, scratch / "general",
            )  # fmt: skip
        supernet = train(
            supernet, "Train the supernet on the task", task.train, settings,
            scratch / "task",
        )  # fmt: skip
        supernet.save_pretrained(folder / MODEL)

    inputs: dict[str, Any] = {
        "edition": EDITION,
        "teacher": teacher.key,
        "data": task.data.digest,
        "space": {key: value for key, value in whole.to_dict().items() if key != "name"},
        "importance_examples": recipe.importance_examples,
        "general": recipe.general and recipe.general.model_dump(mode="json"),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "supernet": asdict(settings),
        "seed": run.request.seed,
    }
    if processes > 1:
        inputs["processes"] = processes
    supernet = run.workspace.artifact("supernet", inputs, build)
    run.display.say(
        f"supernet  {whole.size:,} sub-networks of space {space.name}{origin(supernet)}"
    )
    return supernet


def _untrained(run: Study, teacher: Artifact, guide: Guide) -> Artifact:
    def build(folder: Path) -> None:
        guide.supernet.save_pretrained(folder / MODEL)

    inputs = {
        "edition": EDITION,
        "untrained": True,
        "teacher": teacher.key,
        "importance_examples": run.request.recipe.importance_examples,
        "seed": run.request.seed,
    }
    return run.workspace.artifact("supernet", inputs, build)


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
