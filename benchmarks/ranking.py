"""Whether scores rank architectures as they turn out once they are developed.

    python benchmarks/ranking.py architectures       # which; profiles this machine for a minute
    NAS_DATA=... python benchmarks/ranking.py truth --task trec     # what each becomes; resumable
    NAS_DATA=... python benchmarks/ranking.py scores --task trec    # how well each score ranks them

The architectures lie within 10% of a quarter, 1/9.4 and 1/15 of the teacher's latency (one thread,
ONNX Runtime), eight at each, of all depths that are as slow, two of the eight with layers of
different sizes. What each becomes is found by developing it alone, by the distillation of a recipe,
from the fit on all training texts. Then every way to score them is told by Kendall's tau to that
truth (its validation score; no test score is used), over all and within each latency, and by what
is lost by taking the highest.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_time import METRICS
from result_files import origin, write_result
from rich.console import Console
from scipy.stats import kendalltau

from latency.device import THIS_MACHINE
from latency.options import load_target
from latency.predictor import LatencyPredictor
from latency.profile import Profile
from nas.data.tokenization import EncodedExamples
from nas.models.evaluate import collator, predict, quickly, score
from nas.models.outline import outline
from nas.models.quality import agreement
from nas.pipeline.pipeline import Groundwork
from nas.pipeline.race import race
from nas.pipeline.recipe import Recipe, load_recipe
from nas.pipeline.request import Lesson
from nas.pipeline.rung import LocalRungRunner
from nas.pipeline.stage import Workbench
from nas.pipeline.student_training import StudentTraining
from nas.pipeline.supernet import trained_supernet_stage
from nas.search.expected import Expectation, outlook
from nas.store.result_folder import MODEL
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch
from supernet.configs import load_space
from supernet.distill.evidence import Evidence
from supernet.distill.fitted_start import fit, repair
from supernet.distill.packed_texts import PackedTexts
from supernet.model import Supernet
from supernet.sandwich_settings import SandwichSettings
from supernet.training_settings import TrainingSettings

RESULTS = Path(__file__).parent / "results"
ARCHITECTURES = RESULTS / "ranking-architectures.json"
TARGET = "cpu-1-thread"
SPEEDUPS = (4.0, 9.4, 15.0)
WITHIN = 0.1
EQUAL, UNEQUAL = 6, 2
"""Architectures at each latency with equal layers, and with layers of different sizes."""


def choose_architectures(arguments: argparse.Namespace) -> None:
    """Profile this machine and draw architectures at each latency."""
    target, teacher = load_target(TARGET), outline("minilm", 2)
    spaces = [load_space("minilm"), load_space("minilm-heterogeneous")]
    path = arguments.workspace / "ranking-profile.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        THIS_MACHINE.profile(
            target, spaces[0], teacher.shape, seconds=arguments.seconds, seed=0,
            count_disturbed=True, path=path, progress=lambda _: None,
        )  # fmt: skip
    predictor = LatencyPredictor(Profile.load(path)).fit()
    rng = np.random.default_rng(0)
    teacher_ms = float(predictor.predict([teacher.architecture])[0])
    rows: list[dict[str, Any]] = []
    for speedup in SPEEDUPS:
        equal, unequal = (
            by_depth_in_turn(about(space, predictor, teacher_ms / speedup, rng, samples))
            for space, samples in zip(spaces, (40_000, 60_000), strict=True)
        )
        for some, count in ((equal, EQUAL), (unequal, UNEQUAL)):
            some = some[: 3 * count]
            timed = THIS_MACHINE.time(
                [*some, teacher.architecture], target, teacher.shape, rounds=20
            )
            found = [
                {
                    "speedup": speedup,
                    "measured_speedup": timed[-1].p50_ms / latency.p50_ms,
                    "architecture": architecture.to_dict(),
                    "name": str(architecture),
                }
                for architecture, latency in zip(some, timed, strict=False)
            ]
            rows += [one for one in found if near(one["measured_speedup"], speedup)][:count]
    for row in rows:
        print(f"{row['speedup']:5g}x {row['measured_speedup']:6.2f}x {row['name']}")
    write_result(ARCHITECTURES, origin(target) | {"architectures": rows})


def near(value: float, wanted: float) -> bool:
    return abs(value / wanted - 1) < WITHIN


def by_depth_in_turn(architectures: list[Architecture]) -> list[Architecture]:
    """One of each depth, then another of each."""
    by_depth: dict[int, list[Architecture]] = {}
    for architecture in architectures:
        by_depth.setdefault(architecture.num_layers, []).append(architecture)
    columns = [by_depth[depth] for depth in sorted(by_depth)]
    return [one for row in zip_longest(*columns) for one in row if one is not None]


def about(
    space: Any,
    predictor: LatencyPredictor,
    latency_ms: float,
    rng: np.random.Generator,
    samples: int,
) -> list[Architecture]:
    some = list(dict.fromkeys(space.sample(rng) for _ in range(samples)))
    predicted = np.asarray(predictor.predict(ArchitectureBatch.of(some)))
    return [one for one, ms in zip(some, predicted, strict=True) if near(ms, latency_ms)]


def read_architectures() -> list[tuple[float, Architecture]]:
    rows = json.loads(ARCHITECTURES.read_text())["architectures"]
    return [(row["speedup"], Architecture.from_dict(row["architecture"])) for row in rows]


class Lab:
    """A task with its teacher, and ways to score an architecture."""

    def __init__(self, ground: Groundwork) -> None:
        self.ground, self.recipe = ground, ground.lesson.recipe
        self.task, self.guide, self.teacher = ground.task, ground.guide, ground.teacher
        self.metric = self.task.data.task.metric
        self.training = StudentTraining(
            self.guide, self.task, self.recipe.distill, ground.lesson.seed, ground.bench.display
        )

    @classmethod
    def named(cls, task: str, recipe: Recipe, workspace: Path) -> Lab:
        """Of a folder under NAS_DATA."""
        display = Display(Console(stderr=True))
        lesson = Lesson(
            teacher="minilm",
            data=str(Path(os.environ["NAS_DATA"]) / task),
            recipe=recipe,
            metric=METRICS.get(task),
        )
        return cls(Groundwork(lesson, Workbench(Workspace(workspace, warn=display.warn), display)))

    def fitted(self, architecture: Architecture, evidence: Evidence) -> Any:
        student = self.guide.supernet.blank(architecture)
        fit(student, evidence)
        return student.eval()

    def logits(self, student: Any, examples: EncodedExamples) -> Any:
        student.eval()
        with quickly(student.device):
            return predict(
                lambda batch: student(**batch).logits, examples, collator(self.task.tokenizer),
                student.device,
            )  # fmt: skip

    def told(self, student: Any) -> dict[str, float]:
        """What a student is worth: metric and quality on validation, metric on test."""
        collate = collator(self.task.tokenizer)

        def metric(examples: Any) -> float:
            return score(
                lambda batch: student(**batch).logits, examples, collate, student.device,
                self.metric,
            )  # fmt: skip

        student.eval()
        return {
            "validation": metric(self.task.validation),
            "quality": self.training.validation_quality(student)(),
            "test": metric(self.task.test),
        }

    def developed(self, architecture: Architecture) -> dict[str, Any]:
        """What an architecture becomes alone, by the recipe's distillation."""
        began = time.process_time()
        student = self.fitted(architecture, self.guide.evidence)
        fit_s = time.process_time() - began
        fitted_all = self.told(student)
        began = time.process_time()
        learner = self.training.learner(student)
        with tempfile.TemporaryDirectory() as scratch:
            stages = self.recipe.distill.stages
            self.training.run(learner, stages, lambda _: self.task.train, Path(scratch))
        seconds = time.process_time() - began
        return {
            "fit_seconds": fit_s,
            "train_seconds": seconds,
            "fitted_on_all": fitted_all,
            "developed": self.told(student),
        }


def find_truth(arguments: argparse.Namespace) -> None:
    """Develop every architecture, in an order that mixes the latencies; go on where it stopped."""
    torch.set_num_threads(1)
    path = RESULTS / f"ranking-truth-{arguments.task}.json"
    rows = json.loads(path.read_text())["rows"] if path.is_file() else []
    known = {row["name"] for row in rows}
    lab = Lab.named(arguments.task, load_recipe(arguments.recipe), arguments.workspace)
    architectures = read_architectures()
    for place in np.random.default_rng(0).permutation(len(architectures)):
        speedup, architecture = architectures[place]
        if str(architecture) in known:
            continue
        began = time.process_time()
        student = lab.fitted(architecture, lab.guide.sample)
        sample_s = time.process_time() - began
        rows.append(
            {
                "name": str(architecture),
                "architecture": architecture.to_dict(),
                "speedup": speedup,
                "fitted_on_sample": lab.told(student),
                "sample_fit_seconds": sample_s,
                **lab.developed(architecture),
            }
        )
        content = origin(TARGET) | {
            "task": arguments.task,
            "metric": lab.metric,
            "recipe": lab.recipe.to_dict(),
            "teacher": lab.told(lab.guide.supernet.weights),
            "rows": rows,
        }
        write_result(path, content)
        print(speedup, architecture, rows[-1]["fitted_on_all"], rows[-1]["developed"], flush=True)


def find_scores(arguments: argparse.Namespace) -> None:
    """Score every architecture that has a truth in every way, and tell how well each ranks them."""
    torch.set_num_threads(1)
    truth = json.loads((RESULTS / f"ranking-truth-{arguments.task}.json").read_text())
    lab = Lab.named(arguments.task, load_recipe(arguments.recipe), arguments.workspace)
    path = RESULTS / f"ranking-{arguments.task}.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    rows = truth["rows"]
    scores: dict[str, dict[str, float]] = found.get("scores", {})
    seconds: dict[str, float] = found.get("seconds", {})
    for part in ("fitted_on_sample", "fitted_on_all"):
        scores[f"{part} for the truth"] = {row["name"]: row[part]["quality"] for row in rows}
    seconds["fitted_on_sample for the truth"] = sum(row["sample_fit_seconds"] for row in rows)
    seconds["fitted_on_all for the truth"] = sum(row["fit_seconds"] for row in rows)

    assert lab.recipe.race is not None, "the recipe has a race"
    settings = {"rungs": list(lab.recipe.race.rungs), "epochs": arguments.epochs}

    def keep() -> None:
        write_scores(path, truth, scores, seconds, settings)

    keep()
    if "fitted" not in scores:
        began = time.process_time()
        scores["fitted"], scores["fitted, by depth"] = refitted(lab, rows)
        seconds["fitted"] = seconds["fitted, by depth"] = time.process_time() - began
        keep()
    if arguments.fits_only:
        print(ranking_table(json.loads(path.read_text())))
        return
    if "raced" not in scores:
        began = time.process_time()
        scores["raced"] = raced(lab, rows)
        seconds["raced"] = time.process_time() - began
        keep()
    if "inherited" not in scores:
        began = time.process_time()
        supernet = trained_supernet(lab, arguments.epochs)
        seconds["inherited"] = seconds["repaired"] = time.process_time() - began
        few = Evidence(lab.guide.supernet.weights, PackedTexts.of(lab.guide.sample_batches(128)))
        for part in ("inherited", "repaired"):
            scores[part] = {}
            for row in rows:
                student = supernet.extract(Architecture.from_dict(row["architecture"]))
                if part == "repaired":
                    repair(student, few)
                scores[part][row["name"]] = lab.told(student.eval())["quality"]
        keep()
    print(ranking_table(json.loads(path.read_text())))


def refitted(lab: Lab, rows: list[dict[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """How far fits agree with the teacher, as a search scores them, and what they promise."""
    found, promises = {}, {}
    for row in rows:
        architecture = Architecture.from_dict(row["architecture"])
        student = lab.fitted(architecture, lab.guide.sample)
        logits = lab.logits(student, lab.guide.judged)
        agreed = agreement(lab.metric, logits, lab.guide.judged_logits)
        found[row["name"]] = agreed
        promises[row["name"]] = outlook(agreed, 1.0, architecture.num_layers)
    return found, promises


def raced(lab: Lab, rows: list[dict[str, Any]]) -> dict[str, float]:
    """The architectures of each latency in a race; higher the longer they stayed."""
    found = {}
    settings = lab.recipe.race
    assert settings is not None, "the recipe has a race"
    for speedup in SPEEDUPS:
        same = [Architecture.from_dict(r["architecture"]) for r in rows if r["speedup"] == speedup]
        ground, runner = lab.ground, LocalRungRunner(lab.training)
        ranked = race(
            ground.lesson, settings, same, lab.teacher, lab.task, lab.guide, runner, ground.bench
        )
        found |= {str(one.architecture): len(one.rungs) + one.best for one in ranked}
    return found


def trained_supernet(lab: Lab, epochs: int) -> Supernet:
    """A supernet that learns from the teacher's hidden states and answers."""
    training = TrainingSettings(epochs=epochs, batch_size=32, learning_rate=3e-4)
    settings = SandwichSettings(training=training, hidden_weight=1.0)
    update = {"supernet": settings, "scores": "inherited"}
    recipe = lab.recipe.model_copy(update=update)
    lesson = replace(lab.ground.lesson, recipe=recipe)
    space = load_space("minilm")
    stage = trained_supernet_stage(lesson, space, lab.teacher, lab.task, lab.guide)
    artifact = lab.ground.bench.make(stage)
    return Supernet.from_pretrained(artifact.path / MODEL)


def write_scores(
    path: Path,
    truth: dict[str, Any],
    scores: Any,
    seconds: dict[str, float],
    settings: dict[str, Any],
) -> None:
    """What was found, and what it says of the truth."""
    rows = truth["rows"]
    summary = {name: summed_up(rows, known) for name, known in scores.items()}
    content = origin(TARGET) | {
        "task": truth["task"],
        "metric": truth["metric"],
        "truth": "developed quality on validation (half the metric, half agreement)",
        "summary": summary,
        "expected": {
            name: expected_errors(rows, truth["teacher"], promises)
            for name, promises in scores.items()
            if name == "fitted, by depth"
        },
        "settings": settings,
        "scores": scores,
        "seconds": seconds,
    }
    write_result(path, content)


def summed_up(rows: list[dict[str, Any]], score: dict[str, float]) -> dict[str, Any]:
    """Kendall's tau over all and at each latency, and what the pick at each loses, in points.

    The pick of a race is its winner; of another score, the highest.
    """

    def tau(some: list[dict[str, Any]], part: str) -> float:
        truth = [row["developed"][part] for row in some]
        return float(kendalltau([score[row["name"]] for row in some], truth).statistic)

    at = {s: [row for row in rows if row["speedup"] == s] for s in SPEEDUPS}
    regrets = {}
    for speedup, some in at.items():
        pick = max(some, key=lambda row: score[row["name"]])["developed"]
        regrets[f"{speedup:g}x"] = {
            part: 100 * (max(row["developed"][part] for row in some) - pick[part])
            for part in ("quality", "test")
        }
    return {
        "tau_all": tau(rows, "quality"),
        "tau_all_test": tau(rows, "test"),
        "tau_within": {f"{s:g}x": tau(some, "quality") for s, some in at.items()},
        "tau_within_mean": float(np.mean([tau(some, "quality") for some in at.values()])),
        "regret_points": regrets,
    }


def expected_errors(
    rows: list[dict[str, Any]], teacher: dict[str, float], promises: dict[str, float]
) -> dict[str, float]:
    """How far expected developed scores are off, in points: learnt at one latency, told at others.

    The three that promise most at a latency are its race; the expectation is held against all
    others.
    """
    errors: list[float] = []
    for speedup in SPEEDUPS:
        ranked = sorted(
            (row for row in rows if row["speedup"] == speedup),
            key=lambda row: -promises[row["name"]],
        )
        racers = ranked[:3]
        expect = Expectation.of(
            [promises[row["name"]] for row in racers],
            [row["developed"]["validation"] for row in racers],
            teacher_before=1.0,
            teacher_after=teacher["validation"],
        )
        others = [row for row in rows if row not in racers]
        told = expect([promises[row["name"]] for row in others])
        errors += list(told - np.array([row["developed"]["validation"] for row in others]))
    return {
        "mean_absolute_points": 100 * float(np.abs(errors).mean()),
        "mean_points": 100 * float(np.mean(errors)),
    }


def ranking_table(content: dict[str, Any]) -> str:
    lines = [
        "| score | tau, all | tau within 4x, 9.4x, 15x | regret of the pick, points | seconds |",
        "|---|---|---|---|---|",
    ]
    for name, told in content["summary"].items():
        within = ", ".join(f"{value:.2f}" for value in told["tau_within"].values())
        regret = ", ".join(f"{one['quality']:.1f}" for one in told["regret_points"].values())
        whole = "" if name == "raced" else f"{told['tau_all']:.2f}"
        spent = content["seconds"].get(name, 0.0)
        lines.append(f"| {name} | {whole} | {within} | {regret} | {spent:.0f} |")
    return "\n".join([*lines, f"expected scores: {content['expected']}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["architectures", "truth", "scores"])
    parser.add_argument("--task", default="trec", help="a folder under NAS_DATA")
    parser.add_argument("--seconds", type=float, default=60.0, help="for the profile")
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    parser.add_argument("--epochs", type=int, default=8, help="of the supernet's training")
    parser.add_argument("--fits-only", action="store_true", help="no race and no supernet")
    arguments = parser.parse_args()
    parts = {"architectures": choose_architectures, "truth": find_truth, "scores": find_scores}
    parts[arguments.part](arguments)


if __name__ == "__main__":
    main()
