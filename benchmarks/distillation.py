"""Methods of further distillation, compared on the same student in the same training time.

    NAS_DATA=data python benchmarks/distillation.py --tasks trec stsb cola --seeds 0 1
    NAS_DATA=data python benchmarks/distillation.py --tasks sst2@6735 sst2@673 --methods KD MixKD

For each task and seed a teacher is fine-tuned once. Each method then trains the same student for
the same seconds of processor time on one thread: how many steps that are is measured beforehand for
each method, what the teacher reads in advance included, and so is a fitted start. All others begin
with the teacher's leading units. The two starts have learning rates of their own, 3e-4 and 5e-4,
those that suited them on validation data. Methods that need another student, because it must be as
wide as its teacher (BERT-of-Theseus), take the one of that width whose latency is nearest. Every
result is kept in a file, so an interrupted run goes on, and a larger grid adds to a smaller one.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from latency.atomic import write_text
from latency.fingerprint import Fingerprint
from latency.options import load_target
from latency.runtimes import runtime_of
from nas import distill, learning
from nas.augment import augment, read_augmented
from nas.data import Examples
from nas.device import time_models
from nas.evaluate import collator, score
from nas.progress import Display
from nas.recipe import Distillation, Recipe, load_recipe
from nas.request import Lesson, Study
from nas.teacher import outline
from nas.tokenization import EncodedExamples, encode
from nas.workspace import Artifact, Workspace
from supernet.architecture import Architecture
from supernet.distill.augment import Augmentation
from supernet.distill.fitted_start import fit_to_teacher
from supernet.distill.mixkd import Mixup
from supernet.distill.stage import Losses, Stage
from supernet.distill.theseus import Replacement
from supernet.distill.trainer import DistillTrainer, Learner
from supernet.model import Supernet
from supernet.student import architecture_of, carried_settings, new_student
from supernet.training import TrainingSettings

METRICS = {"cola": "matthews", "stsb": "pearson_spearman"}
STUDENTS = {
    "9.4x": Architecture.uniform(
        num_layers=3, hidden_size=192, num_heads=6, qkv_size=192, intermediate_size=608
    ),
    "4x": Architecture.uniform(
        num_layers=4, hidden_size=256, num_heads=8, qkv_size=256, intermediate_size=704
    ),
}
AS_WIDE = Architecture.uniform(num_layers=2, hidden_size=384, num_heads=12, intermediate_size=1536)
"""What BERT-of-Theseus can make of the default teacher: one layer is far faster, three slower."""
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

    stages: tuple[tuple[Stage, float], ...]
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


def stage(name: str, **options: Any) -> Stage:
    training = TrainingSettings(steps=1, batch_size=32, learning_rate=options.pop("rate", 5e-4))
    return Stage(name=name, training=training, reference_width=256, **options)


FINETUNE = stage("finetune", losses=Losses(hard=1.0))
PREDICTION = stage("prediction", losses=Losses(soft=1.0), temperature=1.0)
INTERMEDIATE = stage("intermediate", losses=Losses(hidden=1.0, attention=1.0))
BEST = stage("distil", losses=Losses(hard=0.3, soft=1.0, hidden=1.0), temperature=2.0, rate=3e-4)
METHODS = {
    "fine-tuning": Method(((FINETUNE, 1.0),)),
    "KD": Method(((stage("kd", losses=Losses(hard=1.0, soft=1.0), temperature=2.0), 1.0),)),
    "MixKD": Method(((stage("mixkd", losses=Losses(hard=1.0), mixup=Mixup()), 1.0),)),
    "TinyBERT, task": Method(((INTERMEDIATE, 0.6), (PREDICTION, 0.4))),
    "TinyBERT, task, augmented": Method(
        (
            (replace(INTERMEDIATE, data="augmented"), 0.6),
            (replace(PREDICTION, data="augmented"), 0.4),
        )
    ),
    "TinyBERT, general and task": Method(
        (
            (stage("general", losses=Losses(hidden=1.0, attention=1.0), data="unlabelled"), 0.3),
            (replace(INTERMEDIATE, data="augmented"), 0.4),
            (replace(PREDICTION, data="augmented"), 0.3),
        )
    ),
    "KD, fitted start": Method(
        ((stage("kd", losses=Losses(hard=1.0, soft=1.0), temperature=2.0, rate=3e-4), 1.0),),
        fitted=True,
    ),
    "MixKD, fitted start": Method(
        ((stage("mixkd", losses=Losses(hard=1.0), mixup=Mixup(), rate=3e-4), 1.0),), fitted=True
    ),
    "best": Method(((BEST, 1.0),), fitted=True),
    "best, from leading units": Method(((replace(BEST, training=FINETUNE.training), 1.0),)),
    "Theseus (as wide)": Method(
        (
            (
                stage(
                    "replace",
                    losses=Losses(hard=1.0),
                    replacement=Replacement(0.3, 6e-4),
                    trained="layers",
                    rate=1e-4,
                ),
                0.6,
            ),
            (stage("finetune", losses=Losses(hard=1.0), trained="layers", rate=1e-4), 0.4),
        ),
        as_wide=True,
    ),
    "KD (as wide)": Method(
        ((stage("kd", losses=Losses(hard=1.0, soft=1.0), temperature=2.0), 1.0),), as_wide=True
    ),
}


def main() -> None:
    arguments = parse()
    if arguments.analyse:
        show(json.loads(arguments.analyse.read_text()), arguments.output)
        return
    path = arguments.output / "distillation.json"
    arguments.output.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"runs": {}}
    if path.exists():
        result = json.loads(path.read_text())
    torch.set_num_threads(1)
    bench = Bench(arguments)
    result["fingerprint"] = Fingerprint.of_this_machine(bench.target).to_dict()
    result["students"] = bench.latencies(result.get("students"))
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for student in arguments.students:
                for name in arguments.methods:
                    key = f"{task}/{student}/{name}/{seed}/{arguments.seconds:g}s"
                    if key not in result["runs"]:
                        result["runs"][key] = bench.run(task, student, name, seed)
                        write_text(path, json.dumps(result, indent=1))
    show(result, arguments.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=["trec", "stsb", "cola"],
        help="folders of NAS_DATA; sst2@673 takes so many training examples, 1% of them",
    )
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=["9.4x"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--seconds", type=float, default=120.0, help="of a training, on one thread")
    parser.add_argument("--limit", type=int, default=10_000, help="training examples at most")
    parser.add_argument("--target", default="cpu-1-thread")
    parser.add_argument("--workspace", type=Path, default=Path("distillation-workspace"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--analyse", type=Path, help="a result; nothing is trained")
    return parser.parse_args()


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

    def study(self, task: str, seed: int, recipe: Recipe) -> Study:
        lesson = Lesson(
            teacher="minilm",
            data=str(self.data / task),
            recipe=recipe,
            metric=METRICS.get(task),
            seed=seed,
        )
        return Study(lesson, self.workspace, self.display)

    def latencies(self, known: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Every student beside the default teacher: milliseconds and speed-up."""
        if known is not None:
            return known
        teacher = outline("minilm", 2)
        named = STUDENTS | {"as wide": AS_WIDE}
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

    def run(self, task: str, student: str, name: str, seed: int) -> dict[str, Any]:
        """Train one student by one method, and score it."""
        method = METHODS[name]
        architecture = AS_WIDE if method.as_wide else STUDENTS[student]
        told, _ = self.train(task, seed, method, method.begin(architecture))
        self.display.say(f"{task} {student} {name} {seed}: {told}")
        return told

    def train(
        self, task: str, seed: int, method: Method, begin: Begin
    ) -> tuple[dict[str, Any], PreTrainedModel]:
        """Train the student that ``begin`` makes of the ordered teacher, and score it."""
        task, _, limit = task.partition("@")
        update = {"limit": int(limit) if limit else self.arguments.limit}
        recipe = load_recipe("full").model_copy(update=update)
        study = self.study(task, seed, recipe)
        data = learning.read_data(study)
        teacher = learning.prepare_teacher(study, data)
        encoded = learning.tokenize(study, data, teacher)
        guide = learning.ordered_supernet(study, teacher, encoded)
        sources = Sources(self, study, method, teacher, encoded)
        texts = learning.sample_batches(study, encoded)
        began = process_time()
        learner = begin(guide, texts)
        beginning_s = process_time() - began
        stages = []
        for one, share in method.stages:
            budget_s = share * (self.arguments.seconds - beginning_s)
            steps = self.steps(one, budget_s, guide, learner, sources, encoded)
            stages.append(replace(one, training=replace(one.training, steps=steps)))
        recipe = recipe.model_copy(update={"distill": Distillation(stages=tuple(stages))})
        study = self.study(task, seed, recipe)
        collate = collator(encoded.tokenizer)
        metric = encoded.data.task.metric

        def scored(examples: EncodedExamples) -> float:
            return score(
                lambda batch: learner(**batch).logits, examples, collate, learner.device, metric
            )

        untrained = scored(encoded.test)
        with tempfile.TemporaryDirectory() as scratch:
            began = process_time()
            distill.learn(study, learner, guide.weights, sources, encoded, Path(scratch))
            seconds = process_time() - began
        learner.eval()
        told = {
            "metric": metric,
            "test": scored(encoded.test),
            "validation": scored(encoded.validation),
            "untrained_test": untrained,
            "teacher_test": learning.read_score(teacher, data.task, "test"),
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
        one: Stage,
        budget_s: float,
        guide: Supernet,
        student: PreTrainedModel,
        sources: Sources,
        task: learning.EncodedTask,
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
        one: Stage,
        steps: int,
        guide: Supernet,
        student: PreTrainedModel,
        data: EncodedExamples,
        task: learning.EncodedTask,
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

    def __init__(
        self,
        bench: Bench,
        study: Study,
        method: Method,
        teacher: Artifact,
        task: learning.EncodedTask,
    ) -> None:
        self._bench = bench
        self._study = study
        self._method = method
        self._teacher = teacher
        self._task = task
        self._encoded: dict[str, EncodedExamples] = {"task": task.train}
        self.augmentation_seconds = 0.0

    def __call__(self, one: Stage) -> EncodedExamples:
        if one.data not in self._encoded:
            length = self._study.request.recipe.max_length
            self._encoded[one.data] = encode(self._examples(one), self._task.tokenizer, length)
        return self._encoded[one.data]

    def _examples(self, one: Stage) -> Examples:
        if one.data == "unlabelled":
            folder = str(self._bench.data / "wikitext2")
            return Examples(learning.unlabelled_texts(self._study, folder, self._task, None))
        settings = self._method.augmentation
        artifact = augment(self._study, settings, self._teacher, self._task)
        self.augmentation_seconds = artifact.seconds
        return read_augmented(artifact, self._task.data.train, settings.originals)


def first(data: EncodedExamples, count: int) -> EncodedExamples:
    rows = np.random.default_rng(0).permutation(len(data))[:count]
    labels = data.labels
    return EncodedExamples(
        {name: [values[row] for row in rows] for name, values in data.columns.items()},
        None if labels is None else [labels[row] for row in rows],  # type: ignore[arg-type]
    )


# ---- analysis ---------------------------------------------------------------------------------


Runs = dict[tuple[str, str], dict[str, list[dict[str, Any]]]]
"""By student and method, then by task."""


def grouped(result: Mapping[str, Any], *, limited: bool) -> Runs:
    """All runs on whole training sets, or on parts of them."""
    lengths = Counter(key.split("/")[-1] for key in result["runs"])
    usual = max(lengths, key=lengths.__getitem__, default="")
    found: Runs = defaultdict(dict)
    for key, run in result["runs"].items():
        task, student, method, _seed, seconds = key.split("/")
        if ("@" in task) == limited:
            name = method if seconds == usual else f"{method}, {seconds}"
            found[student, name].setdefault(task, []).append(run)
    order = {method: place for place, method in enumerate(METHODS)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0][1], len(order))))


def show(result: Mapping[str, Any], folder: Path) -> None:
    """Tables and plots, of whole training sets and of parts of them."""
    for limited, name in ((False, "distillation"), (True, "distillation-limited")):
        groups = grouped(result, limited=limited)
        tasks = sorted({task for by_task in groups.values() for task in by_task})
        if tasks:
            Console(width=160).print(table(groups, tasks))
            plot(groups, tasks, folder / f"{name}.png")


def table(groups: Runs, tasks: Sequence[str]) -> Table:
    """Means over seeds with their spread, and shares of the teacher's score."""
    drawn = Table("student", "method", *tasks, "mean", "of the teacher")
    for (student, method), by_task in groups.items():
        cells, means, shares = [], [], []
        for task in tasks:
            runs = by_task.get(task, [])
            scores = np.array([100 * run["test"] for run in runs])
            if not len(scores):
                cells.append("")
                continue
            cells.append(f"{scores.mean():.1f} ± {np.ptp(scores) / 2:.1f}")
            means.append(scores.mean())
            shares.append(np.mean([run["test"] / run["teacher_test"] for run in runs]))
        whole = len(means) == len(tasks)
        mean = f"{np.mean(means):.1f}" if whole else ""
        drawn.add_row(student, method, *cells, mean, f"{np.mean(shares):.1%}" if whole else "")
    teachers = []
    for task in tasks:
        runs = [run["teacher_test"] for by in groups.values() for run in by.get(task, [])]
        teachers.append(100 * float(np.mean(runs)))
    cells = [f"{score:.1f}" for score in teachers]
    drawn.add_row("", "teacher", *cells, f"{np.mean(teachers):.1f}", "")
    return drawn


def plot(
    groups: Runs,
    tasks: Sequence[str],
    path: Path,
) -> None:
    students = sorted({student for student, _ in groups})
    figure, axes = plt.subplots(
        len(students), len(tasks), figsize=(4 * len(tasks), 3.2 * len(students)),
        squeeze=False, sharey="row", layout="constrained",
    )  # fmt: skip
    for row, student in enumerate(students):
        methods = [method for one, method in groups if one == student]
        for column, task in enumerate(tasks):
            axis = axes[row][column]
            for place, method in enumerate(reversed(methods)):
                runs = groups[student, method].get(task, [])
                shares = [100 * run["test"] / run["teacher_test"] for run in runs]
                if shares:
                    axis.plot(shares, [place] * len(shares), "o", color="#d55e00", markersize=5)
                    axis.plot(np.mean(shares), place, "|", color="#0072b2", markersize=18)
            axis.set_yticks(range(len(methods)), reversed(methods))
            axis.set(title=f"{task}, {student}", xlabel="% of the teacher's score")
            shown = [
                run["test"] / run["teacher_test"]
                for m in methods
                for run in groups[student, m].get(task, [])
            ]
            if shown:
                axis.set_xlim(100 * min(shown) - 5, 101)
            axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
