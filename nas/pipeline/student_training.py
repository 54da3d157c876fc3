"""How students of a teacher are trained: stage by stage of a recipe, each resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import collator, predict
from nas.models.quality import quality
from nas.pipeline.guide import Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.recipe import Distillation
from nas.terminal.progress import Display
from supernet.distill.masked_words import Masking
from supernet.distill.stage import DistillStage
from supernet.distill.trainer import DistillTrainer, Learner
from supernet.model import Supernet
from supernet.training import EpochsSampler, Watch

EDITION = 7
"""Of how students learn: raised when the same recipe comes to train another student."""

ALIGNED = 128
"""Texts on which the projection of states is begun."""


@dataclass(frozen=True)
class StudentTraining:
    """Trains students of one teacher on one task, by one recipe.

    Args:
        guide: the teacher.
        seed: of all chance in the training.
    """

    guide: Guide
    task: EncodedTask
    recipe: Distillation
    seed: int
    display: Display

    def learner(
        self, student: PreTrainedModel, teacher: Supernet | None = None, begun: Path | None = None
    ) -> Learner:
        """A student with what its training needs besides.

        Args:
            teacher: whose units stand where the student's do; the guide's by default.
            begun: the state of a learner that goes on; None for one that begins.
        """
        weights = (teacher or self.guide.supernet).weights
        torch.manual_seed(self.seed)  # for what a learner has besides the student
        learner = Learner(student, weights.config.hidden_size)
        if begun is not None:
            learner.load_state_dict(load_file(str(begun)))
        elif any(stage.losses.hidden for stage in self.recipe.stages):
            learner.align(weights, self.guide.sample_batches(ALIGNED))
        return learner

    def run(
        self,
        learner: Learner,
        stages: Sequence[DistillStage],
        data_of: Callable[[DistillStage], EncodedExamples],
        folder: Path,
        teacher: Supernet | None = None,
        first: float | None = None,
        checks: int | None = None,
    ) -> None:
        """Train a student in place, stage by stage.

        A stage that teaches predictions ends with the weights that were best on validation, if the
        recipe has ``checks``.

        Args:
            folder: keeps what each stage made; after a crash, finished stages are not repeated.
            teacher: as for :meth:`learner`.
            first: the student's quality on validation before it is trained, if it is known.
            checks: how often it is scored in a stage; by the recipe by default.
        """
        teacher = teacher or self.guide.supernet
        checks = self.recipe.checks if checks is None else checks
        for number, stage in enumerate(stages, start=1):
            finished = folder / f"{number}-{stage.name}.safetensors"
            if not finished.is_file():
                self._run_stage(
                    learner, stage, number, data_of(stage), teacher, finished, first, checks
                )
            learner.load_state_dict(load_file(str(finished)))
            first = None

    def _run_stage(
        self,
        learner: Learner,
        stage: DistillStage,
        number: int,
        data: EncodedExamples,
        teacher: Supernet,
        finished: Path,
        first: float | None,
        checks: int,
    ) -> None:
        masking = watch = None
        if stage.losses.mlm:
            masking = Masking.of(self.task.tokenizer, learner.student.config.vocab_size)
        if checks and stage.teaches_predictions:
            steps = EpochsSampler(data.lengths, stage.training, seed=0).steps
            every = max(1, -(-steps // checks))
            watch = Watch(self.validation_quality(learner.student), every, first=first)
        known = self.guide.readings_of(data) if teacher is self.guide.supernet else None
        with self.display.bar(f"Distil: {stage.name}") as bar:
            DistillTrainer(
                learner, teacher.weights, data, collator(self.task.tokenizer), stage,
                finished.with_suffix(""), seed=(self.seed + number) % 2**32,
                masking=masking, evidence=known, watch=watch, progress=bar, reading=bar.before,
            ).run()  # fmt: skip
        scratch = finished.with_suffix(".tmp")
        save_file(learner.state_dict(), str(scratch))
        os.replace(scratch, finished)

    def validation_quality(self, student: PreTrainedModel) -> Callable[[], float]:
        """What tells how good a student is on validation as it stands:
        :func:`nas.models.quality.quality`.
        """
        collate, examples = collator(self.task.tokenizer), self.task.validation
        metric, labels = self.task.data.task.metric, np.asarray(examples.labels)

        def found() -> float:
            logits = predict(
                lambda batch: student(**batch).logits, examples, collate, student.device
            )
            return quality(metric, logits, self.guide.validation_logits, labels)

        return found
