"""Where a student begins: its architecture, and the weights that it has before it is distilled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from latency.candidates import read_candidates
from nas.models.measured import load_model, model_folder
from nas.models.teacher import digest
from nas.pipeline.compressing import Kronecker
from nas.pipeline.guide import Guide
from nas.pipeline.recipe import Distillation
from nas.store.result_folder import MODEL
from nas.store.workspace import Artifact
from nas.tasks.labels import align_labels, check_labels
from nas.tasks.task import Task
from nas.tasks.units import predict_learnt
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.compress.kronecker import unfitted
from supernet.distill.fitted_start import fit, fit_to_teacher
from supernet.errors import NasError
from supernet.model import Supernet


@dataclass(frozen=True)
class Beginning:
    """A student before it is distilled.

    Args:
        identity: tells the student's own weights from those of others.
        load: gives the student with its own weights, from the teacher, whose units are ordered by
            importance, and the task.
        finished: whether the student is a model that has learnt by itself.
        learner: the state of a :class:`supernet.distill.trainer.Learner` that has begun to learn
            from this teacher; training goes on from it.
        compression: of the student's matrices, before it learns.
    """

    architecture: Architecture
    identity: str
    load: Callable[[Supernet, Task], PreTrainedModel]
    finished: bool = False
    learner: Path | None = None
    compression: Kronecker | None = None

    def start(self, recipe: Distillation) -> str:
        """Which weights the student begins with, by a recipe.

        A finished model keeps its own weights where others are fitted to the teacher.
        """
        if self.learner is not None:
            return "raced"
        return "own" if self.finished and recipe.start == "fitted" else recipe.start

    def with_weights(
        self, recipe: Distillation, guide: Guide, task: Task, seed: int, display: Display
    ) -> PreTrainedModel:
        """The student with the weights that a recipe has it begin with."""
        student = self._started(self.start(recipe), guide, task, seed, display)
        if self.compression is None:
            return student
        if recipe.start != "fitted":
            return self.compression.nearest(student)
        return self.compression.fitted(student, guide.sample_batches(), display)

    def _started(
        self, start: str, guide: Guide, task: Task, seed: int, display: Display
    ) -> PreTrainedModel:
        if start == "own":
            student = self.load(guide.supernet, task)
            if not self.architecture.is_factored or getattr(student.config, "factors", None):
                return student
            small = unfitted(student, self.architecture.factors)
            with display.bar("Fit the factors to the sub-network") as bar:
                fit_to_teacher(small, student, guide.sample_batches(), bar)
            return small
        if start == "teacher":
            return guide.supernet.extract(self.architecture, range(self.architecture.num_layers))
        torch.manual_seed(seed)
        student = guide.supernet.blank(self.architecture)
        if start == "fitted":
            evidence = guide.evidence
            with display.bar("Fit the student to the teacher") as bar:
                fit(student, evidence, bar)
        return student


def sub_network(architecture: Architecture, supernet: Artifact) -> Beginning:
    """A student that begins as a trained supernet's sub-network.

    Factors of compressed layers are fitted to what the sub-network computes.
    """

    def load(_guide: Supernet, _task: Task) -> PreTrainedModel:
        return Supernet.from_pretrained(supernet.path / MODEL).extract(architecture.whole)

    return Beginning(architecture, supernet.key, load)


def read_student(source: str, max_length: int) -> Beginning:
    """A student that a person names: a model's folder, or an architecture.

    An architecture alone has the teacher's leading units for its own weights.

    Raises:
        NasError: neither a model nor one architecture; or, when the student is loaded, a model for
            other labels, another vocabulary or shorter texts.
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
