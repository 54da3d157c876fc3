"""Further distillation: an architecture becomes a student, which learns on by a recipe's stages."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertForSequenceClassification, PreTrainedModel

from latency.candidates import read_candidates
from nas.data.task_data import Examples
from nas.data.tokenization import EncodedExamples, encode
from nas.models.evaluate import collator, predict, scores
from nas.models.export import export
from nas.models.measured import load_model, model_folder
from nas.models.quality import quality
from nas.models.teacher import digest
from nas.pipeline.augment import augment, read_augmented
from nas.pipeline.guide import Guide, sample_batches
from nas.pipeline.learning import SCORES, EncodedTask, read_score, read_scores, unlabelled_texts
from nas.pipeline.recipe import Distillation
from nas.pipeline.request import Study, origin
from nas.store.manifest import SCRATCH, read_manifest
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.tasks.chance import baseline, doubts, standing
from nas.tasks.labels import align_labels, check_labels
from nas.tasks.task import Task
from nas.tasks.units import predict_learnt, predict_values
from supernet.architecture import Architecture, layer_map
from supernet.compress.kronecker import unfitted
from supernet.distill.evidence import Evidence
from supernet.distill.fitted_start import fit, fit_to_teacher
from supernet.distill.losses import hidden_loss
from supernet.distill.masked_words import Masking
from supernet.distill.stage import Stage
from supernet.distill.trainer import DistillTrainer, Learner
from supernet.errors import NasError
from supernet.model import Supernet
from supernet.observe import observe
from supernet.space import SearchSpace
from supernet.training import EpochsSampler, Watch

EDITION = 6
"""Of what a recipe means: raised when the same one comes to train another student."""

Change = Callable[[PreTrainedModel, Study, EncodedTask], PreTrainedModel]
"""From a student, a run and its task to another student."""

ALIGNED = 128
"""Texts on which the projection of states is begun."""


@dataclass(frozen=True)
class Beginning:
    """A student before it is distilled.

    Args:
        identity: what tells its own weights from others'.
        load: makes it, with its own weights, from the teacher, ordered by importance, and the task.
        finished: whether it is a model that has learnt by itself.
        learner: the state of a :class:`supernet.distill.trainer.Learner` that has begun to learn
            from this teacher: it goes on from there.
        changed, change: what is done to it then, by a recipe, and what tells that from other
            changes.
    """

    architecture: Architecture
    identity: str
    load: Callable[[Supernet, Task], PreTrainedModel]
    finished: bool = False
    learner: Path | None = None
    changed: Change | None = None
    change: str = ""

    def start(self, recipe: Distillation) -> str:
        """Which weights it begins with, by a recipe; a finished model is not fitted anew."""
        if self.learner is not None:
            return "raced"
        return "own" if self.finished and recipe.start == "fitted" else recipe.start

    def with_weights(self, run: Study, guide: Guide, task: EncodedTask) -> PreTrainedModel:
        """The student with the weights that a run's recipe has it begin with."""
        student = self._started(run, guide, task)
        return student if self.changed is None else self.changed(student, run, task)

    def _started(self, run: Study, guide: Guide, task: EncodedTask) -> PreTrainedModel:
        start, supernet = self.start(run.request.recipe.distill), guide.supernet
        if start == "own":
            return self.load(supernet, task.data.task)
        if start == "teacher":
            return supernet.extract(self.architecture, range(self.architecture.num_layers))
        torch.manual_seed(run.request.seed)
        student = supernet.blank(self.architecture)
        if start == "fitted":
            evidence = guide.evidence
            with run.display.stage("Fit the student to the teacher") as bar:
                fit(student, evidence, bar)
        return student


def sub_network(architecture: Architecture, supernet: Artifact) -> Beginning:
    """A student that begins as a trained supernet's sub-network.

    Factors of compressed layers are fitted to what that computes.
    """

    def load(_guide: Supernet, _task: Task) -> PreTrainedModel:
        return Supernet.from_pretrained(supernet.path / MODEL).extract(architecture.whole)

    def fitted(whole: PreTrainedModel, run: Study, task: EncodedTask) -> PreTrainedModel:
        if not architecture.is_factored or run.request.recipe.distill.start != "own":
            return whole
        student = unfitted(whole, architecture.factors)
        with run.display.stage("Fit the factors to the sub-network") as bar:
            fit_to_teacher(student, whole, sample_batches(run, task), bar)
        return student

    return Beginning(architecture, supernet.key, load, changed=fitted)


def read_student(source: str, max_length: int) -> Beginning:
    """A student that a person names: a model's folder, or an architecture.

    An architecture alone has the teacher's leading units for its own weights.

    Raises:
        NasError: neither; or, when it is loaded, a model for other labels, another vocabulary or
            shorter texts.
    """
    candidates = read_candidates(source)
    if len(candidates) != 1:
        raise NasError(f"student {source}: give one architecture, not {len(candidates)}")
    architecture = candidates[0].architecture
    if candidates[0].shape is None or not Path(source).is_dir():
        return Beginning(architecture, "teacher", lambda guide, _task: guide.extract(architecture))
    folder = model_folder(Path(source))
    shape = candidates[0].shape
    if max_length > shape.max_positions:
        raise NasError(
            f"student {source} has {shape.max_positions} positions, fewer than the recipe's "
            f"max_length {max_length}"
        )

    def load(guide: Supernet, task: Task) -> PreTrainedModel:
        model, _ = load_model(folder)
        check_labels(f"student {source}", model.config, task)
        align_labels(model, task)
        predict_learnt(model, task.units)
        for name, own, theirs in (
            ("words", shape.vocab_size, guide.shape.vocab_size),
            ("segments", shape.type_vocab_size, guide.shape.type_vocab_size),
        ):
            if own != theirs:
                raise NasError(f"student {source} has {own} {name}, the teacher {theirs}")
        return model

    if not any(folder.glob("*.safetensors")):
        raise NasError(f"student {source}: {folder} holds no .safetensors weights")
    return Beginning(architecture, digest(str(folder.absolute())), load, finished=True)


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


def distilled(
    run: Study,
    beginning: Beginning,
    teacher: Artifact,
    task: EncodedTask,
    guide: Guide | None = None,
) -> Artifact:
    """Artifact ``student``: what a student becomes by the recipe, exported and scored.

    Args:
        guide: of the run's teacher and task; None for one of its own.
    """
    recipe = run.request.recipe.distill
    guide = guide or Guide(run, teacher, task)
    start = beginning.start(recipe)
    texts: tuple[str, ...] = ()
    if any(stage.data == "unlabelled" for stage in recipe.stages):
        texts = unlabelled_texts(run, recipe.texts, task, recipe.limit)

    def build(folder: Path) -> None:
        student = beginning.with_weights(run, guide, task)
        ordered = guide.supernet
        if start == "own":
            ordered = in_the_order_of(student, [ordered, guide.as_it_was], first_batch(task))
        length = run.request.recipe.max_length

        def data_of(stage: Stage) -> EncodedExamples:
            if stage.data == "unlabelled":
                return encode(Examples(texts), task.tokenizer, length)
            if stage.data == "augmented":
                copies = augment(run, recipe.augmentation, teacher, task)
                examples = read_augmented(copies, task.data.train, recipe.augmentation.originals)
                return encode(examples, task.tokenizer, length, task.data.task.units)
            return task.train

        learner = new_learner(run, student, ordered.weights, task, beginning.learner)
        is_guide = ordered is guide.supernet
        evidence_on = guide.readings_of if is_guide else no_evidence
        watched = validation_quality(student, guide, task)
        learn(run, learner, ordered.weights, data_of, task, folder / SCRATCH, evidence_on, watched)
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

    inputs = {
        "edition": EDITION,
        "architecture": beginning.architecture.to_dict(),
        "begins_as": beginning.identity if start in ("own", "raced") else start,
        "changed": beginning.change,
        "teacher": teacher.key,
        "data": task.data.digest,
        "metric": task.data.task.metric,  # by which the best weights are told
        "distill": recipe.model_dump(mode="json"),
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "max_length": run.request.recipe.max_length,
        "importance_examples": run.request.recipe.importance_examples,
        "fit_examples": run.request.recipe.fit_examples,
        "seed": run.request.seed,
    }
    student = run.workspace.artifact("student", inputs, build)
    value = read_score(student, task.data.task, "test")
    run.display.say(f"student   {task.data.task.metric} {value:.4f} (test){origin(student)}")
    return student


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


def new_learner(
    run: Study,
    student: PreTrainedModel,
    teacher: BertForSequenceClassification,
    task: EncodedTask,
    begun: Path | None = None,
) -> Learner:
    """A student with what its training needs besides.

    Args:
        begun: the state of a learner that goes on; None for one that begins.
    """
    torch.manual_seed(run.request.seed)  # for what a learner has besides the student
    learner = Learner(student, teacher.config.hidden_size)
    if begun is not None:
        learner.load_state_dict(load_file(str(begun)))
    elif any(stage.losses.hidden for stage in run.request.recipe.distill.stages):
        learner.align(teacher, sample_batches(run, task, ALIGNED))
    return learner


def validation_quality(
    student: PreTrainedModel, guide: Guide, task: EncodedTask
) -> Callable[[], float]:
    """What tells on validation how good a student is: :func:`nas.models.quality.quality`."""
    collate, examples = collator(task.tokenizer), task.validation
    metric, labels = task.data.task.metric, np.asarray(examples.labels)

    def found() -> float:
        logits = predict(lambda batch: student(**batch).logits, examples, collate, student.device)
        return quality(metric, logits, guide.validation_logits, labels)

    return found


def no_evidence(_data: EncodedExamples) -> Evidence | None:
    """Nothing is known beforehand of what a teacher computes."""
    return None


def learn(
    run: Study,
    learner: Learner,
    teacher: BertForSequenceClassification,
    data_of: Callable[[Stage], EncodedExamples],
    task: EncodedTask,
    folder: Path,
    evidence_on: Callable[[EncodedExamples], Evidence | None] = no_evidence,
    watched: Callable[[], float] | None = None,
    stages: Sequence[Stage] | None = None,
) -> None:
    """Train a student in place by all stages; one that ended is not repeated after a crash.

    Args:
        evidence_on: what the teacher computes on data, where that is known.
        watched: how good the student is as it stands, for stages that teach predictions: each ends
            with the best.
        stages: other ones than the recipe's.
    """
    recipe = run.request.recipe.distill
    for number, stage in enumerate(stages or recipe.stages, start=1):
        finished = folder / f"{number}-{stage.name}.safetensors"
        if not finished.is_file():
            data = data_of(stage)
            masking = None
            if stage.losses.mlm:
                masking = Masking.of(task.tokenizer, learner.student.config.vocab_size)
            watch = None
            if watched is not None and recipe.checks and stage.teaches_predictions:
                steps = EpochsSampler(data.lengths, stage.training, seed=0).steps
                watch = Watch(watched, max(1, -(-steps // recipe.checks)))
            trainer = partial(
                DistillTrainer, learner, teacher, data, collator(task.tokenizer), stage,
                finished.with_suffix(""), seed=(run.request.seed + number) % 2**32,
                masking=masking, evidence=evidence_on(data), watch=watch,
            )  # fmt: skip
            with run.display.stage(f"Distil: {stage.name}") as bar:
                trainer(progress=bar, reading=bar.before).run()
            scratch = finished.with_suffix(".tmp")
            save_file(learner.state_dict(), str(scratch))
            os.replace(scratch, finished)
        learner.load_state_dict(load_file(str(finished)))


def parameters_of(folder: Path) -> int:
    """How many a saved model has, read from the headers of its files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - the file is no mapping
    return total


def describe(
    run: Study, beginning: Beginning, student: Artifact, teacher: Artifact, task: EncodedTask
) -> dict[str, Any]:
    """What there is to say of a distilled student: ``distillation.json``."""
    metric = task.data.task.metric
    found = [
        {split: read_score(one, task.data.task, split) for split in ("validation", "test")}
        for one in (student, teacher)
    ]
    model, its_teacher = (
        standing(task.data.task, task.data.labels("test"), "test", read_scores(one, "test"))
        for one in (student, teacher)
    )
    return {
        "architecture": beginning.architecture.to_dict(),
        "parameters": parameters_of(student.path / MODEL),
        "metric": metric,
        "score": found[0],
        "teacher_score": found[1],
        "baseline_score": {
            split: baseline(task.data.task, task.data.labels(split)) for split in found[0]
        },
        "warnings": list(doubts(model, its_teacher)),
        "seconds": student.seconds,
        "seed": run.request.seed,
        "recipe": run.request.recipe.to_dict(),
        "data": run.request.data,
        "teacher": run.request.teacher,
        "versions": read_manifest(student.path, student.key)["versions"],
    }
