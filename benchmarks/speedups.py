"""What a search is worth: test scores at given speed-ups, beside shapes that people design by hand.

    NAS_DATA=... python benchmarks/speedups.py --task trec --budgets 4 9.4 15 --seeds 0 1

For each budget the pipeline runs alone, with search, race and distillation, on one thread. Beside
it stand fewer layers of the teacher's, all its layers made thin, TinyBERT's proportions, and an
architecture drawn at random, each the largest that measures within the budget. They begin as ours
does, fitted to the teacher on as many texts, and learn by the same distillation, for the same
processor time as ours had for everything after the teacher and the profile. Every training ends
with its best weights by validation. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_time import METRICS
from ranking import Lab

from latency.fingerprint import Fingerprint
from latency.options import load_target
from latency.target import Budget
from nas.choosing import goals_of
from nas.designs import DESIGNS, designed
from nas.device import Trial, timed
from nas.distill import learn, new_learner, validation_quality
from nas.guide import Guide
from nas.learning import read_score
from nas.pipeline import Pipeline
from nas.plots import PALETTE
from nas.progress import Display
from nas.recipe import Recipe, load_recipe
from nas.request import Request, Run
from nas.search.goals import Goals
from nas.search.pool import Pool, build_pool
from nas.settings import data_folder
from nas.workspace import Workspace
from supernet.architecture import Architecture
from supernet.configs import load_space

RESULTS = Path(__file__).parent / "results"
OURS = "TailorBERT"
TRIAL_STEPS = 30
FLOOR = 90.0
"""The least share of the teacher's score that a plot has room for."""


class Comparison:
    """One task, seed and budget."""

    def __init__(self, arguments: argparse.Namespace, seed: int, speedup: float) -> None:
        self.display = Display()
        recipe = load_recipe(arguments.recipe)
        if arguments.limit:
            recipe = recipe.model_copy(update={"limit": arguments.limit})
        folder = data_folder()
        assert folder is not None, "it was looked for"
        request = Request(
            teacher="minilm",
            data=str(folder / arguments.task),
            budget=Budget(speedup=speedup),
            space=load_space(arguments.space),
            target=load_target(arguments.target),
            recipe=recipe,
            metric=METRICS.get(arguments.task),
            seed=seed,
        )
        self.arguments, self.recipe, self.seed = arguments, recipe, seed
        workspace = Workspace(arguments.workspace, warn=self.display.warn)
        self.run = Run(request, workspace, self.display)
        self.output = arguments.workspace / "outputs" / f"{speedup:g}x-{seed}"
        self.pipeline = Pipeline([self.run])
        for stage in ("data", "profiles", "teacher"):
            self.pipeline.finish(stage)

    def ours(self) -> dict[str, Any]:
        began = time.process_time()
        report = self.pipeline.develop(0, self.output)
        seconds = time.process_time() - began
        fresh = all(report.stages[name] for name in ("search", "choice", "racer", "student"))
        return {
            "design": OURS,
            "architecture": str(report.architecture),
            "test": report.score,
            "speedup": report.speedup,
            "seconds": seconds,
            "whole": fresh,  # else a part was done before, and the seconds are not all
            "used_of_budget": report.measured_p50_ms / report.budget_ms,
            "race": [[str(one.architecture), *one.scores] for one in report.race],
            "expected_deviation": report.expected_deviation,
        }

    def others(self) -> Iterable[tuple[str, Trial]]:
        """Each design's largest within the budget, as it measures; the next smaller, if it is not.

        Of 'random', one of the slower half of all that are fast enough.
        """
        (goal,) = goals_of([self.run], self.pipeline.profiles, self.pipeline.original)
        rng = np.random.default_rng(self.seed)
        pool = build_pool(self.pipeline.space, Goals((goal,)), max_enumerated=2_000_000, rng=rng)
        there = designed_names(pool, self.pipeline.original.architecture)
        for name in self.arguments.designs:
            if name != "random" and name not in there:
                continue
            limit = 1.0
            while True:
                found = self._largest(pool, name, limit, rng)
                if found is None:
                    break
                architecture, ms = found
                trial = timed(self.run, architecture, ms, self.pipeline.original, headroom=True)
                if trial.met:
                    yield name, trial
                    break
                limit *= 0.97

    def _largest(
        self, pool: Pool, name: str, limit: float, rng: np.random.Generator
    ) -> tuple[Architecture, float] | None:
        rows = np.flatnonzero(pool.usage[0] <= limit)
        if name == "random":
            rows = rows[pool.usage[0][rows] > 0.9 * limit]
            row = int(rng.choice(rows))
            return pool.batch(np.array([row])).architecture(0), float(pool.latency_ms[row])
        teacher = self.pipeline.original.architecture
        found = designed(pool, rows, pool.latency_ms[rows], teacher).get(name)
        return None if found is None else (found, float("nan"))

    def developed(self, architecture: Architecture, seconds: float) -> dict[str, Any]:
        """Fit and distil for so much processor time in all."""
        lab, evidence = self.lab, self.lab.guide.evidence
        weights = lab.guide.supernet.weights
        began = time.process_time()
        student = lab.fitted(architecture, evidence)
        fitted = lab.told(student)
        left = seconds - self.reading_s - (time.process_time() - began)
        steps = max(1, round(left / self._seconds_of_a_step(lab, architecture)))
        stage = self.recipe.distill.stages[0]
        stage = replace(stage, training=replace(stage.training, steps=steps, epochs=None))
        learner = new_learner(self.run, student, weights, lab.task)
        with tempfile.TemporaryDirectory() as scratch:
            learn(
                self.run, learner, weights, lambda _: lab.task.train, lab.task, Path(scratch),
                lab.guide.readings_of, validation_quality(student, lab.guide, lab.task), (stage,),
            )  # fmt: skip
        spent = self.reading_s + time.process_time() - began
        return {"seconds": spent, "steps": steps, "fitted": fitted, **lab.told(student)}

    @cached_property
    def lab(self) -> Lab:
        """The others' teacher, which has read the texts for itself."""
        began = time.process_time()
        guide = Guide(self.run, self.pipeline.teacher, self.pipeline.task)
        lab = Lab(self.run, self.recipe, self.pipeline.task, self.pipeline.teacher, guide)
        _ = guide.evidence
        self.reading_s = time.process_time() - began
        return lab

    def _seconds_of_a_step(self, lab: Lab, architecture: Architecture) -> float:
        """Of the distillation: what twice as many steps take longer."""
        weights = lab.guide.supernet.weights
        stage = self.recipe.distill.stages[0]

        def spent(steps: int) -> float:
            one = replace(stage, training=replace(stage.training, steps=steps, epochs=None))
            learner = new_learner(
                self.run, lab.guide.supernet.blank(architecture), weights, lab.task
            )
            began = time.process_time()
            with tempfile.TemporaryDirectory() as scratch:
                learn(
                    self.run, learner, weights, lambda _: lab.task.train, lab.task, Path(scratch),
                    lab.guide.readings_of, None, (one,),
                )  # fmt: skip
            return time.process_time() - began

        return (spent(2 * TRIAL_STEPS) - spent(TRIAL_STEPS)) / TRIAL_STEPS


def designed_names(pool: Pool, teacher: Architecture) -> list[str]:
    rows = np.flatnonzero(pool.usage[0] <= 1)
    return list(designed(pool, rows, pool.latency_ms[rows], teacher))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="trec", help="a folder under NAS_DATA")
    parser.add_argument("--space", default="minilm")
    parser.add_argument("--target", default="cpu-1-thread")
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--limit", type=int, default=None, help="training examples at most")
    parser.add_argument("--budgets", type=float, nargs="+", default=[4.0, 9.4, 15.0])
    parser.add_argument(
        "--designs", nargs="+", choices=[*DESIGNS, "random"], default=[*DESIGNS, "random"],
        help="whom to develop beside ours",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    parser.add_argument("--plot", action="store_true", help="draw what was measured, nothing else")
    arguments = parser.parse_args()
    if data_folder() is None and not arguments.plot:
        raise SystemExit("set NAS_DATA to the folder of data sets")
    torch.set_num_threads(1)
    path = RESULTS / f"speedups-{arguments.task}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []
    for seed in () if arguments.plot else arguments.seeds:
        for speedup in arguments.budgets:
            compare(arguments, seed, speedup, rows, path)
    print(table(rows))
    plot(rows, path.with_suffix(".png"))


def compare(
    arguments: argparse.Namespace,
    seed: int,
    speedup: float,
    rows: list[dict[str, Any]],
    path: Path,
) -> None:
    """Add the rows of one budget that are missing."""
    known = {row["design"]: row for row in rows if (row["seed"], row["budget"]) == (seed, speedup)}
    comparison = Comparison(arguments, seed, speedup)
    pipeline = comparison.pipeline
    teacher = read_score(pipeline.teacher, pipeline.task.data.task, "test")

    def add(row: dict[str, Any]) -> None:
        rows.append({"seed": seed, "budget": speedup, "teacher_test": teacher} | row)
        known[row["design"]] = rows[-1]
        save(path, rows, arguments, comparison.recipe)

    if OURS not in known:
        add(comparison.ours())
    for name, trial in comparison.others():
        if name not in known:
            row = {
                "design": name,
                "architecture": str(trial.architecture),
                "speedup": trial.teacher_p50_ms / trial.p50_ms,
                "used_of_budget": trial.measured_ms / trial.limit_ms,
            }
            add(row | comparison.developed(trial.architecture, known[OURS]["seconds"]))


def save(
    path: Path, rows: list[dict[str, Any]], arguments: argparse.Namespace, recipe: Recipe
) -> None:
    content = {
        "script": "benchmarks/speedups.py",
        "arguments": {
            name: value for name, value in vars(arguments).items() if name != "workspace"
        },
        "recipe": recipe.to_dict(),
        "machine": Fingerprint.of_this_machine(load_target(arguments.target)).to_dict(),
        "platform": platform.platform(),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "rows": rows,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| budget | design | architecture | speed-up | test | of the teacher's | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = sorted({(r["budget"], r["design"] != OURS, r["design"]) for r in rows})
    for budget, _, design in keys:
        same = [row for row in rows if (row["budget"], row["design"]) == (budget, design)]
        shares = [row["test"] / row["teacher_test"] for row in same]
        spread = f" ± {statistics.stdev(shares):.1%}" if len(shares) > 1 else ""
        lines.append(
            f"| {budget:g}x | {design} | {', '.join(row['architecture'] for row in same)} "
            f"| {statistics.mean(row['speedup'] for row in same):.2f}x "
            f"| {statistics.mean(row['test'] for row in same):.4f} "
            f"| {statistics.mean(shares):.1%}{spread} "
            f"| {statistics.mean(row['seconds'] for row in same):.0f} |"
        )
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = {
        OURS: ("o", PALETTE["chosen"]),
        "fewer layers": ("s", PALETTE["front"]),
        "thinner": ("v", PALETTE["front"]),
        "TinyBERT's proportions": ("^", PALETTE["teacher"]),
        "random": ("x", PALETTE["muted"]),
    }
    for design, (marker, colour) in styles.items():
        same = [row for row in rows if row["design"] == design]
        if same:
            shares = [100 * row["test"] / row["teacher_test"] for row in same]
            speeds = [row["speedup"] for row in same]
            shown = [max(share, FLOOR) for share in shares]
            axes.plot(speeds, shown, marker, color=colour, label=design, clip_on=False)
            for speed, share in zip(speeds, shares, strict=True):
                if share < FLOOR:  # far below: told, and not drawn to scale
                    axes.annotate(
                        f"{share:.0f}%", (speed, FLOOR), (0, 6), textcoords="offset points",
                        ha="center",
                    )  # fmt: skip
    axes.set_xscale("log")
    budgets = sorted({row["budget"] for row in rows})
    axes.set_xticks(budgets, [f"{budget:g}x" for budget in budgets])
    axes.minorticks_off()
    axes.axhline(100, color=PALETTE["muted"], linewidth=1)
    axes.set_ylim(bottom=FLOOR)
    axes.set_xlabel("speed-up over the teacher, measured")
    axes.set_ylabel("share of the teacher's score on test (%)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
