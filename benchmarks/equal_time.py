"""Students trained for the same processor time, however fast the method is that trains them.

What the benchmarks of distillation and of compression share.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from transformers import PreTrainedModel

from latency.beside import time_models
from latency.options import load_target
from latency.runtimes import runtime_of
from nas.data.task_data import Examples
from nas.data.tokenization import EncodedExamples, encode
from nas.models.evaluate import collator, score
from nas.models.outline import outline
from nas.pipeline.augment import augmented_stage, read_augmented
from nas.pipeline.learning import EncodedTask, read_score, unlabelled_texts
from nas.pipeline.pipeline import Groundwork
from nas.pipeline.recipe import Distillation, Recipe, load_recipe
from nas.pipeline.request import Lesson
from nas.pipeline.stage import Workbench
from nas.pipeline.student_training import StudentTraining
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.distill.augmentation import Augmentation
from supernet.distill.fitted_start import fit_to_teacher
from supernet.distill.stage import DistillStage
from supernet.distill.trainer import DistillTrainer, Learner
from supernet.model import Supernet
from supernet.student import architecture_of, carried_settings, new_student
from supernet.training_settings import TrainingSettings

METRICS = {"cola": "matthews", "stsb": "pearson_spearman"}
TRIAL_STEPS = 12

Texts = list[dict[str, torch.Tensor]]
Begin = Callable[[Supernet, Texts], PreTrainedModel]
"""From the teacher, its units ordered by importance, and texts to the student before training."""


@dataclass(frozen=True)
class Method:
    """Stages, and what share of the time each has.

    Args:
        as_wide: takes a student as wide as the teacher.
        fitted: begins with weights fitted to the teacher's activations, for which the time counts.
    """

    stages: tuple[tuple[DistillStage, float], ...]
    augmentation: Augmentation = Augmentation(copies=20)
    as_wide: bool = False
    fitted: bool = False

    def begin(self, architecture: Architecture) -> Begin:
        return fitted(architecture) if self.fitted else leading(architecture)


def leading(architecture: Architecture) -> Begin:
    """The teacher's leading units."""
    return lambda guide, _texts: guide.extract(architecture)


def fitted(architecture: Architecture) -> Begin:
    """Weights fitted to the teacher's activations."""

    def begin(guide: Supernet, texts: Texts) -> PreTrainedModel:
        settings = carried_settings(guide.weights.config)
        student = new_student(architecture, guide.shape, settings)
        fit_to_teacher(student, guide.weights, texts)
        return student

    return begin


def stage(name: str, **options: Any) -> DistillStage:
    training = TrainingSettings(steps=1, batch_size=32, learning_rate=options.pop("rate", 5e-4))
    return DistillStage(name=name, training=training, reference_width=256, **options)


class StoppedError(Exception):
    """A trial has run for as many steps as it needs."""


class Bench:
    """Teachers, students and data, and what was trained from them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        folder = os.environ.get("NAS_DATA")
        if folder is None:
            raise SystemExit("NAS_DATA must name the folder of data sets")
        self.data = Path(folder)
        self.arguments = arguments
        self.target = load_target(arguments.target)
        self.display = Display(Console(stderr=True))
        self.workspace = Workspace(arguments.workspace, warn=self.display.warn)

    def ground(self, task: str, seed: int, recipe: Recipe) -> Groundwork:
        lesson = Lesson(
            teacher="minilm",
            data=str(self.data / task),
            recipe=recipe,
            metric=METRICS.get(task),
            seed=seed,
        )
        return Groundwork(lesson, Workbench(self.workspace, self.display))

    def latencies(self, named: Mapping[str, Architecture]) -> Mapping[str, Any]:
        """Students beside the default teacher: milliseconds and speed-up."""
        teacher = outline("minilm", 2)
        runtime = runtime_of(self.target)
        models = [
            runtime.model(one, self.target, shape=teacher.shape)
            for one in (*named.values(), teacher.architecture)
        ]
        found = time_models(models, self.target, teacher.shape)
        base = found[-1].p50_ms
        return {
            name: {
                "architecture": str(one),
                "p50_ms": latency.p50_ms,
                "speedup": base / latency.p50_ms,
                "parameters": one.parameters(teacher.shape),
            }
            for (name, one), latency in zip(named.items(), found, strict=False)
        }

    def train(
        self, task: str, seed: int, method: Method, begin: Begin
    ) -> tuple[dict[str, Any], PreTrainedModel]:
        """Train the student that ``begin`` makes of the ordered teacher, and score it."""
        task, _, limit = task.partition("@")
        update = {"limit": int(limit) if limit else self.arguments.limit}
        recipe = load_recipe("full").model_copy(update=update)
        ground = self.ground(task, seed, recipe)
        teacher, encoded, guide = ground.teacher, ground.task, ground.guide.supernet
        sources = Sources(self, ground, method)
        texts = ground.guide.sample_batches()
        began = process_time()
        learner = begin(guide, texts)
        beginning_s = process_time() - began
        stages = []
        for one, share in method.stages:
            budget_s = share * (self.arguments.seconds - beginning_s)
            steps = self.steps(one, budget_s, guide, learner, sources, encoded)
            stages.append(replace(one, training=replace(one.training, steps=steps)))
        training = StudentTraining(
            ground.guide, encoded, Distillation(stages=tuple(stages), checks=0), seed, self.display
        )
        collate = collator(encoded.tokenizer)
        metric = encoded.data.task.metric

        def scored(examples: EncodedExamples) -> float:
            return score(
                lambda batch: learner(**batch).logits, examples, collate, learner.device, metric
            )

        untrained = scored(encoded.test)
        with tempfile.TemporaryDirectory() as scratch:
            began = process_time()
            whole = training.learner(learner)
            training.run(whole, stages, sources, Path(scratch))
            seconds = process_time() - began
        learner.eval()
        told = {
            "metric": metric,
            "test": scored(encoded.test),
            "validation": scored(encoded.validation),
            "untrained_test": untrained,
            "teacher_test": read_score(teacher, encoded.data.task, "test"),
            "seconds": beginning_s + seconds,
            "beginning_seconds": beginning_s,
            "augmentation_seconds": sources.augmentation_seconds,
            "steps": {one.name: one.training.steps for one in stages},
            "parameters": learner.num_parameters(),
            "architecture": str(architecture_of(learner.config)),
        }
        return told, learner

    def steps(
        self,
        one: DistillStage,
        budget_s: float,
        guide: Supernet,
        student: PreTrainedModel,
        sources: Sources,
        task: EncodedTask,
    ) -> int:
        """How many steps fill a stage's share of the time, reading in advance included."""
        data = sources(one)
        some = first(data, 1024)
        live_s, _ = self.trial(one, TRIAL_STEPS, guide, student, some, task)
        if not one.losses.compared:
            return max(1, round(budget_s / live_s))
        kept_s, reading_s = self.trial(one, 10_000, guide, student, some, task)
        reading_s *= len(data) / len(some)
        steps = round((budget_s - reading_s) / kept_s)
        if steps * one.training.batch_size > len(data):
            return steps
        return max(1, round(min(budget_s / live_s, len(data) / one.training.batch_size)))

    def trial(
        self,
        one: DistillStage,
        steps: int,
        guide: Supernet,
        student: PreTrainedModel,
        data: EncodedExamples,
        task: EncodedTask,
    ) -> tuple[float, float]:
        """Seconds of a step, and those before the first."""
        ticks: list[float] = []

        def progress(_done: int, _total: int) -> None:
            ticks.append(process_time())
            if len(ticks) == TRIAL_STEPS:
                raise StoppedError

        reading: list[float] = []
        with tempfile.TemporaryDirectory() as scratch:
            trainer = DistillTrainer(
                Learner(deepcopy(student), guide.weights.config.hidden_size),
                guide.weights,
                data,
                collator(task.tokenizer),
                replace(one, training=replace(one.training, steps=steps)),
                Path(scratch),
                seed=0,
                progress=progress,
                reading=lambda _done, _total: reading.append(process_time()),
            )
            began = process_time()
            with suppress(StoppedError):
                trainer.run()
        step_s = float(np.median(np.diff(ticks)))
        return step_s, reading[-1] - began if reading else 0.0


class Sources:
    """The data of a method's stages, each encoded once."""

    def __init__(self, bench: Bench, ground: Groundwork, method: Method) -> None:
        self._bench = bench
        self._ground = ground
        self._method = method
        self._encoded: dict[str, EncodedExamples] = {"task": ground.task.train}
        self.augmentation_seconds = 0.0

    def __call__(self, one: DistillStage) -> EncodedExamples:
        if one.data not in self._encoded:
            length, tokenizer = self._ground.lesson.recipe.max_length, self._ground.task.tokenizer
            self._encoded[one.data] = encode(self._examples(one), tokenizer, length)
        return self._encoded[one.data]

    def _examples(self, one: DistillStage) -> Examples:
        ground = self._ground
        if one.data == "unlabelled":
            folder = str(self._bench.data / "wikitext2")
            return Examples(unlabelled_texts(folder, None, ground.lesson, ground.data))
        how, length = self._method.augmentation, ground.lesson.recipe.max_length
        artifact = ground.bench.make(
            augmented_stage(how, ground.teacher, ground.task, length, ground.lesson.seed)
        )
        self.augmentation_seconds = artifact.seconds
        return read_augmented(artifact, ground.data.train, how.originals)


def first(data: EncodedExamples, count: int) -> EncodedExamples:
    rows = np.random.default_rng(0).permutation(len(data))[:count]
    labels = data.labels
    return EncodedExamples(
        {name: [values[row] for row in rows] for name, values in data.columns.items()},
        None if labels is None else [labels[row] for row in rows],
    )
