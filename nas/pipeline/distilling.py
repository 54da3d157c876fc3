"""Further distillation: a student learns on, by a recipe's stages, and is exported and scored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas.data.task_data import Examples
from nas.data.tokenization import EncodedExamples, encode
from nas.models.evaluate import collator, scores
from nas.models.export import export
from nas.pipeline.beginning import Beginning
from nas.pipeline.guide import Guide
from nas.pipeline.learning import SCORES, EncodedTask, read_scores, unlabelled_texts
from nas.pipeline.recipe import Distillation
from nas.pipeline.request import Lesson
from nas.pipeline.rung import validation_quality_of
from nas.pipeline.stage import Stage
from nas.pipeline.student_training import EDITION, StudentTraining
from nas.store.manifest import SCRATCH
from nas.store.workspace import Artifact
from nas.tasks.units import predict_values
from nas.terminal.progress import Display
from supernet.architecture import Architecture, layer_map
from supernet.distill.losses import hidden_loss
from supernet.distill.stage import DistillStage
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.observe import observe
from supernet.space import SearchSpace


def check_for_search(recipe: Distillation, space: SearchSpace, teacher: Architecture) -> None:
    """Refuse a replacement of layers where some architecture of a space does not fit for it.

    Raises:
        NasError: naming a hidden size or a number of layers that does not.
    """
    if all(stage.replacement is None for stage in recipe.stages):
        return
    advice = "choose another recipe or space, or give one student to nas distill"
    for hidden in space.hidden_size:
        if hidden != teacher.hidden_size:
            raise NasError(
                f"a recipe with a replacement needs students of the teacher's hidden size "
                f"{teacher.hidden_size}, and space {space.name} has {hidden}: {advice}"
            )
    for depth in space.num_layers:
        if teacher.num_layers % depth:
            raise NasError(
                f"a recipe with a replacement needs a number of layers that divides the teacher's "
                f"{teacher.num_layers}, and space {space.name} has {depth}: {advice}"
            )


def student_stage(
    lesson: Lesson,
    beginning: Beginning,
    teacher: Artifact,
    task: EncodedTask,
    guide: Guide,
    augmented: Callable[[], Examples],
) -> Stage:
    """Stage ``student``: what a student becomes by the recipe, exported and scored.

    Args:
        augmented: gives the texts of the recipe's stages on ``augmented`` data.
    """
    recipe, length = lesson.recipe.distill, lesson.recipe.max_length
    start = beginning.start(recipe)
    texts: tuple[str, ...] = ()
    if any(stage.data == "unlabelled" for stage in recipe.stages):
        texts = unlabelled_texts(recipe.texts, recipe.limit, lesson, task.data)

    def build(folder: Path, display: Display) -> None:
        student = beginning.with_weights(recipe, guide, task.data.task, lesson.seed, display)
        ordered = guide.supernet
        if start == "own":
            ordered = in_the_order_of(student, [ordered, guide.as_it_was], first_batch(task))

        def data_of(stage: DistillStage) -> EncodedExamples:
            if stage.data == "unlabelled":
                return encode(Examples(texts), task.tokenizer, length)
            if stage.data == "augmented":
                return encode(augmented(), task.tokenizer, length, task.data.task.units)
            return task.train

        training = StudentTraining(guide, task, recipe, lesson.seed, display)
        learner = training.learner(student, ordered, beginning.learner)
        first = None if beginning.learner is None else validation_quality_of(beginning.learner)
        training.run(learner, recipe.stages, data_of, folder / SCRATCH, ordered, first)
        student.eval()
        if "token_type_ids" not in task.train.columns:
            forget_segments(student)
        predict_values(student, task.data.task.units)
        collate = collator(task.tokenizer)
        export(student, task.tokenizer, folder, sample=first_batch(task))
        found = {
            name: scores(
                lambda batch: student(**batch).logits,
                examples,
                collate,
                student.device,
                task.data.task.kind.metric_names,
            )
            for name, examples in (("validation", task.validation), ("test", task.test))
        }
        (folder / SCORES).write_text(json.dumps(found))

    def lines(folder: Path) -> list[str]:
        metric = task.data.task.metric
        return [f"student   {metric} {read_scores(folder, 'test')[metric]:.4f} (test)"]

    compression = beginning.compression
    inputs = {
        "architecture": beginning.architecture.to_dict(),
        "begins_as": beginning.identity if start in ("own", "raced") else start,
        "changed": "" if compression is None else compression.identity,
        "teacher": teacher.key,
        "data": task.data.digest,
        "metric": task.data.task.metric,  # by which the best weights are told
        "distill": recipe.model_dump(mode="json"),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "max_length": length,
        "importance_examples": lesson.recipe.importance_examples,
        "fit_examples": lesson.recipe.fit_examples,
        "seed": lesson.seed,
    }
    return Stage(name="student", edition=EDITION, inputs=inputs, build=build, lines=lines)


@torch.no_grad()
def forget_segments(student: PreTrainedModel) -> None:
    """Give all segments the embedding of the first, the only one that a student was ever shown.

    What serves it may well tell the texts of a pair apart, as the library ``tokenizers`` does.
    """
    table = student.bert.embeddings.token_type_embeddings.weight
    table.copy_(table[:1].expand_as(table).clone())


def first_batch(task: EncodedTask) -> dict[str, Tensor]:
    """Some texts of the task, as a model reads them."""
    batch = collator(task.tokenizer)([task.test[row] for row in range(min(8, len(task.test)))])
    batch.pop("labels")
    return batch


@torch.no_grad()
def in_the_order_of(
    student: PreTrainedModel, guides: Sequence[Supernet], batch: Mapping[str, Tensor]
) -> Supernet:
    """The teacher whose units stand where the student's do: whose states are nearest to its own.

    A student cut from an ordered teacher has its order; one that was trained apart, and a copy of
    the teacher, have the teacher's own.
    """
    states = observe(student, batch).hidden_states
    mask = batch["attention_mask"]

    def distance(guide: Supernet) -> float:
        theirs = observe(guide.weights, batch).hidden_states
        width = min(states[0].shape[-1], theirs[0].shape[-1])
        mapped = layer_map(len(states) - 1, len(theirs) - 1)
        return sum(
            hidden_loss(mine[..., :width], theirs[index][..., :width], mask).item()
            for mine, index in zip(states, mapped, strict=True)
        )

    return min(guides, key=distance)
