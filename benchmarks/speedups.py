"""Test accuracy at given speed-ups over the teacher, beside hand-designed architectures.

    NAS_DATA=... python benchmarks/speedups.py --task trec --budgets 2 4 9.4 --seeds 0

For each seed the pipeline runs once for every budget in one workspace. Beside each result stand
hand-designed encoders of equal measured latency, given the training time that ours had: its own
distillation and an equal share of the supernet's training. They begin as ours do, with weights
fitted to the teacher's activations, and learn by the same further distillation, so the architecture
is all that differs. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from latency.beside import time_beside
from latency.fingerprint import Fingerprint
from latency.options import load_target
from latency.target import Budget
from nas import distill, learning
from nas.device import exported
from nas.pipeline import run_pipeline
from nas.plots import PALETTE
from nas.progress import Display
from nas.recipe import Recipe, load_recipe
from nas.report import Report
from nas.request import Request, Run
from nas.result_folder import MODEL
from nas.settings import data_folder
from nas.teacher import outline
from nas.workspace import Artifact, Workspace
from supernet.architecture import Architecture
from supernet.configs import load_space
from supernet.distill.stage import Stage
from supernet.training import EpochsSampler

RESULTS = Path(__file__).parent / "results"
TINYBERT = Architecture.uniform(num_layers=4, hidden_size=312, num_heads=12, intermediate_size=1200)


def fewer_layers(teacher: Architecture) -> Iterator[Architecture]:
    """The teacher's first layers at full width, slowest first."""
    for depth in range(teacher.num_layers, 0, -1):
        yield Architecture(teacher.hidden_size, teacher.layers[:depth])


def tinybert_proportions(teacher: Architecture) -> Iterator[Architecture]:
    """TinyBERT's 4 layers of 312 with an intermediate size of 1200, scaled, slowest first."""
    for hidden in range(teacher.hidden_size, 12, -12):
        intermediate = round(TINYBERT.layers[0].intermediate_size * hidden / TINYBERT.hidden_size)
        yield Architecture.uniform(
            num_layers=4, hidden_size=hidden, num_heads=12, intermediate_size=intermediate
        )


DESIGNS = {"fewer layers": fewer_layers, "TinyBERT proportions": tinybert_proportions}


class Study:
    """One seed's pipeline runs and baselines in one workspace."""

    def __init__(self, arguments: argparse.Namespace, folder: Path, seed: int) -> None:
        self.display = Display()
        self.workspace = Workspace(arguments.workspace, warn=self.display.warn)
        self.output = arguments.workspace / "outputs" / f"seed{seed}"
        self.request = Request(
            teacher=arguments.teacher,
            data=str(folder / arguments.task),
            budget=Budget.parse("2x"),
            space=load_space(arguments.space),
            target=load_target(arguments.target),
            recipe=load_recipe(arguments.recipe),
            metric=arguments.metric,
            seed=seed,
        )
        self.run = Run(self.request, self.workspace, self.display)
        self.data = learning.read_data(self.run)

    def ours(self, speedup: float) -> Report:
        request = replace(self.request, budget=Budget(speedup=speedup))
        run = Run(request, self.workspace, self.display)
        return run_pipeline([run], [self.output / f"{speedup:g}x"])[0]

    def baseline(self, design: str, ours: Report, seconds: float) -> dict[str, Any]:
        """Train and time the slowest of a design that is not slower than ours."""
        teacher = learning.prepare_teacher(self.run, self.data)
        architecture = self._as_fast(design, ours, teacher)
        longer = seconds / ours_seconds(self.workspace, ours)
        task = learning.tokenize(self.run, self.data, teacher)
        recipe = scaled(self.request.recipe, longer, len(task.train))
        run = Run(replace(self.request, recipe=recipe), self.workspace, self.display)
        beginning = distill.read_student(json.dumps(architecture.to_dict()), recipe.max_length)
        artifact = distill.distilled(run, beginning, teacher, task)
        original, target = outline(teacher.path / MODEL), self.request.target
        folders = (self.output / f"{self.speedup_of(ours):g}x", artifact.path)
        models = [*(exported(one, target) for one in folders), original.architecture]
        mine, theirs, _ = time_beside(models, target, original.shape)
        return {
            "design": design,
            "architecture": str(architecture),
            "score": learning.read_score(artifact, self.data.task, "test"),
            "training": longer,
            "train_seconds": artifact.seconds,
            "p50_ms": theirs.p50_ms,
            "latency_over_ours": theirs.p50_ms / mine.p50_ms,
        }

    @staticmethod
    def speedup_of(report: Report) -> float:
        speedup = Budget.parse(str(report.settings["budget"])).speedup
        assert speedup is not None
        return speedup

    def _as_fast(self, design: str, ours: Report, teacher: Artifact) -> Architecture:
        original = outline(teacher.path / MODEL)
        target = self.request.target
        for architecture in DESIGNS[design](original.architecture):
            if architecture.flops(64) > 2.5 * ours.architecture.flops(64):
                continue  # far slower: not worth timing
            models = [ours.architecture, architecture, original.architecture]
            mine, theirs, _ = time_beside(models, target, original.shape)
            if theirs.p50_ms <= 1.02 * mine.p50_ms:
                return architecture
        raise SystemExit(f"no {design} is as fast as {ours.architecture}")


def scaled(recipe: Recipe, longer: float, examples: int) -> Recipe:
    """The recipe with ``longer`` times the steps in each stage of the student's training."""

    def lengthened(stage: Stage) -> Stage:
        settings = recipe.distill.augmentation
        copies = settings.originals + settings.copies if stage.data == "augmented" else 1
        rows = [1] * (examples * copies)
        steps = round(longer * EpochsSampler(rows, stage.training, seed=0).steps)
        return replace(stage, training=replace(stage.training, epochs=None, steps=max(1, steps)))

    stages = tuple(map(lengthened, recipe.distill.stages))
    return recipe.model_copy(
        update={"distill": recipe.distill.model_copy(update={"stages": stages})}
    )


def ours_seconds(workspace: Workspace, report: Report) -> float:
    """What the student's own distillation took, when it was not yet in the workspace."""
    manifests = (workspace.root / "student").glob("*/manifest.json")
    for path in manifests:
        manifest = json.loads(path.read_text())
        same = manifest["inputs"]["architecture"] == report.architecture.to_dict()
        if same and manifest["inputs"]["seed"] == report.seed:
            return float(manifest["seconds"])
    raise SystemExit("no student of this report in the workspace")


def supernet_seconds(workspace: Workspace, seed: int) -> float:
    for path in (workspace.root / "supernet").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["inputs"]["seed"] == seed:
            return float(manifest["seconds"])
    raise SystemExit("no supernet of this seed in the workspace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="trec", help="a folder under NAS_DATA")
    parser.add_argument("--metric", default=None)
    parser.add_argument("--teacher", default="minilm")
    parser.add_argument("--space", default="minilm")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--budgets", type=float, nargs="+", default=[2.0, 4.0, 9.4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--designs", nargs="*", default=list(DESIGNS), choices=list(DESIGNS))
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    arguments = parser.parse_args()
    folder = data_folder()
    if folder is None:
        raise SystemExit("set NAS_DATA to the folder of data sets")

    rows: list[dict[str, Any]] = []
    path = RESULTS / f"speedups-{arguments.task}.json"
    for seed in arguments.seeds:
        study = Study(arguments, folder, seed)
        reports = [study.ours(budget) for budget in arguments.budgets]
        share = supernet_seconds(study.workspace, seed) / len(reports)
        for budget, report in zip(arguments.budgets, reports, strict=True):
            own = ours_seconds(study.workspace, report)
            row = {
                "seed": seed,
                "budget": budget,
                "teacher_score": report.teacher_score,
                "metric": report.metric,
            }
            ours = {
                "design": "TailorBERT",
                "architecture": str(report.architecture),
                "score": report.score,
                "training": 1.0,
                "train_seconds": own + share,
                "p50_ms": report.measured_p50_ms,
                "latency_over_ours": 1.0,
                "speedup": report.speedup,
            }
            rows.append(row | ours)
            save(path, rows, arguments)
            for design in arguments.designs:
                found = study.baseline(design, report, own + share)
                speedup = report.speedup / found["latency_over_ours"]
                rows.append(row | found | {"speedup": speedup})
                save(path, rows, arguments)
    print(table(rows))
    plot(rows, path.with_suffix(".png"))


def save(path: Path, rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    fingerprint = Fingerprint.of_this_machine(load_target(arguments.target))
    content = {
        "script": "benchmarks/speedups.py",
        "arguments": {
            name: value for name, value in vars(arguments).items() if name != "workspace"
        },
        "recipe": load_recipe(arguments.recipe).to_dict(),
        "machine": fingerprint.to_dict(),
        "platform": platform.platform(),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": rows,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| budget | design | architecture | speed-up | score | of the teacher's | train s |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(row["budget"], row["design"]) for row in rows}, key=lambda k: (k[0], k[1]))
    for budget, design in keys:
        same = [row for row in rows if (row["budget"], row["design"]) == (budget, design)]
        shares = [row["score"] / row["teacher_score"] for row in same]
        spread = f" ± {statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
        lines.append(
            f"| {budget:g}x | {design} | {', '.join(row['architecture'] for row in same)} "
            f"| {statistics.mean(row['speedup'] for row in same):.2f}x "
            f"| {statistics.mean(row['score'] for row in same):.4f} "
            f"| {statistics.mean(shares):.1%}{spread} "
            f"| {statistics.mean(row['train_seconds'] for row in same):.0f} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = {
        "TailorBERT": ("o", PALETTE["chosen"]),
        "fewer layers": ("s", PALETTE["front"]),
        "TinyBERT proportions": ("^", PALETTE["teacher"]),
    }
    for design, (marker, colour) in styles.items():
        same = [row for row in rows if row["design"] == design]
        axes.plot(
            [row["speedup"] for row in same],
            [100 * row["score"] / row["teacher_score"] for row in same],
            marker,
            color=colour,
            label=design,
        )
    axes.set_xscale("log")
    axes.set_xticks([2, 4, 9.4], ["2x", "4x", "9.4x"])
    axes.minorticks_off()
    axes.axhline(100, color=PALETTE["muted"], linewidth=1)
    axes.set_xlabel("speed-up over the teacher, measured")
    axes.set_ylabel(f"share of the teacher's {rows[0]['metric']} on test (%)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
