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
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_time import METRICS
from ranking import Lab
from result_files import origin, save_figure, write_result

from latency.options import load_target
from latency.target import Budget
from nas.pipeline.learning import read_score
from nas.pipeline.measuring import Timer, Trial
from nas.pipeline.pipeline import Groundwork, Pipeline
from nas.pipeline.recipe import Recipe, load_recipe
from nas.pipeline.request import Aim, Request
from nas.pipeline.stage import Workbench
from nas.report.plots import PALETTE
from nas.search.designs import DESIGNS, designed
from nas.search.goals import Goals
from nas.search.pool import Pool, build_pool
from nas.settings import data_folder
from nas.store.workspace import Workspace
from nas.terminal.progress import Display
from supernet.architecture import Architecture
from supernet.configs import load_space

RESULTS = Path(__file__).parent / "results"
OURS = "TailorBERT"
TRIAL_STEPS = 30
NAMES = {"trec": "TREC", "stsb": "STS-B", "sst2": "SST-2", "cola": "CoLA", "agnews7600": "AG News"}
FLOOR = 90.0
"""The least share of the teacher's score that a plot has room for."""


class Comparison:
    """One task, seed and budget."""

    def __init__(
        self, arguments: argparse.Namespace, seed: int, speedup: float, recipe: Recipe | None = None
    ) -> None:
        self.display = Display()
        recipe = recipe or recipe_of(arguments)
        folder = data_folder()
        assert folder is not None, "it was looked for"
        aim = Aim(target=load_target(arguments.target), budget=Budget(speedup=speedup))
        self.request = Request(
            teacher="minilm",
            data=str(folder / arguments.task),
            aims=(aim,),
            space=load_space(arguments.space),
            recipe=recipe,
            metric=METRICS.get(arguments.task),
            seed=seed,
        )
        self.arguments, self.recipe, self.seed = arguments, recipe, seed
        workspace = Workspace(arguments.workspace, warn=self.display.warn)
        self.output = arguments.workspace / "outputs" / f"{speedup:g}x-{seed}"
        self.pipeline = Pipeline(self.request, Workbench(workspace, self.display))
        for stage in ("data", "profiles", "teacher"):
            self.pipeline.finish(stage)

    def ours(self) -> dict[str, Any]:
        """The pipeline for this budget alone: scores of other budgets' searches are forgotten."""
        (self.arguments.workspace / "scores.jsonl").unlink(missing_ok=True)
        began = time.process_time()
        report = self.pipeline.develop(0, self.output)
        seconds = time.process_time() - began
        fresh = all(report.stages[name] for name in ("search", "choice", "racer", "student"))
        return {
            "design": OURS,
            "architecture": str(report.architecture),
            "layers": report.architecture.to_dict(),
            "test": report.score,
            "speedup": report.speedup,
            "seconds": seconds,
            "whole": fresh,  # else a part was done before, and the seconds are not all
            "used_of_budget": report.measured_p50_ms / report.budget_ms,
            "race": [[str(one.architecture), *one.scores] for one in report.race],
            "expected_deviation": report.expected_deviation,
        }

    def others(self, designs: Sequence[str]) -> Iterable[tuple[str, Trial]]:
        """Each design's largest within the budget, as it measures; the next smaller, if it is not.

        Of 'random', one of the slower half of all that are fast enough.
        """
        (goal,), (aim,) = self.pipeline.goals, self.request.aims
        recipe, original = self.request.recipe, self.pipeline.original
        timer = Timer(aim, original, recipe.timing_rounds, recipe.headroom)
        rng = np.random.default_rng(self.seed)
        pool = build_pool(self.pipeline.space, Goals((goal,)), max_enumerated=2_000_000, rng=rng)
        there = designed_names(pool, self.pipeline.original.architecture)
        for name in designs:
            if name != "random" and name not in there:
                continue
            limit = 1.0
            while True:
                found = self._largest(pool, name, limit, rng)
                if found is None:
                    break
                architecture, ms = found
                trial = timer.timed(architecture, ms)
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

    def developed(
        self, architecture: Architecture, seconds: float, *, fitted: bool = True
    ) -> dict[str, Any]:
        """Fit and distil for so much processor time in all.

        Args:
            fitted: else it begins as a slice of the teacher.
        """
        lab, evidence = self.lab, self.lab.guide.evidence
        began = time.process_time()
        student = (
            lab.fitted(architecture, evidence)
            if fitted
            else lab.guide.supernet.extract(architecture).eval()
        )
        beginning = lab.told(student)
        left = seconds - self.reading_s - (time.process_time() - began)
        steps = max(1, round(left / self._seconds_of_a_step(lab, architecture)))
        stage = self.recipe.distill.stages[0]
        stage = replace(stage, training=replace(stage.training, steps=steps, epochs=None))
        learner = lab.training.learner(student)
        with tempfile.TemporaryDirectory() as scratch:
            lab.training.run(learner, (stage,), lambda _: lab.task.train, Path(scratch))
        spent = self.reading_s + time.process_time() - began
        return {"seconds": spent, "steps": steps, "fitted": beginning, **lab.told(student)}

    @cached_property
    def lab(self) -> Lab:
        """The others' teacher, which has read the texts for itself."""
        began = time.process_time()
        ground = Groundwork(self.request, self.pipeline.bench)
        ground.teacher, ground.task = self.pipeline.teacher, self.pipeline.task
        lab = Lab(ground)
        _ = lab.guide.evidence
        self.reading_s = time.process_time() - began
        return lab

    def _seconds_of_a_step(self, lab: Lab, architecture: Architecture) -> float:
        """Of the distillation: what twice as many steps take longer."""
        stage = self.recipe.distill.stages[0]
        training = replace(
            lab.training, recipe=lab.training.recipe.model_copy(update={"checks": 0})
        )

        def spent(steps: int) -> float:
            one = replace(stage, training=replace(stage.training, steps=steps, epochs=None))
            learner = training.learner(lab.guide.supernet.blank(architecture))
            began = time.process_time()
            with tempfile.TemporaryDirectory() as scratch:
                training.run(learner, (one,), lambda _: lab.task.train, Path(scratch))
            return time.process_time() - began

        return (spent(2 * TRIAL_STEPS) - spent(TRIAL_STEPS)) / TRIAL_STEPS


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    recipe = load_recipe(arguments.recipe)
    return recipe.model_copy(update={"limit": arguments.limit}) if arguments.limit else recipe


def designed_names(pool: Pool, teacher: Architecture) -> list[str]:
    rows = np.flatnonzero(pool.usage[0] <= 1)
    return list(designed(pool, rows, pool.latency_ms[rows], teacher))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="trec", help="a folder under NAS_DATA")
    parser.add_argument("--space", default="minilm")
    parser.add_argument("--target", default="cpu-1-thread")
    parser.add_argument("--recipe", default="standard")
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
    print(table(rows) if rows else f"{path} holds no rows yet")
    print(summary(everything()))
    print(against_each(everything()))
    plot(everything(), RESULTS / "speedups.png")


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
    for name, trial in comparison.others(arguments.designs):
        if name not in known:
            row = {
                "design": name,
                "architecture": str(trial.architecture),
                "speedup": trial.teacher_p50_ms / trial.p50_ms,
                "used_of_budget": trial.measured_ms / trial.limit_ms,
            }
            add(row | comparison.developed(trial.architecture, known[OURS]["seconds"]))


def save(
    path: Path,
    rows: list[dict[str, Any]],
    arguments: argparse.Namespace,
    recipe: Recipe,
) -> None:
    asked = {name: value for name, value in vars(arguments).items() if name != "workspace"}
    content = {"arguments": asked, "recipe": recipe.to_dict(), "rows": rows}
    write_result(path, origin(arguments.target) | content)


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


def everything() -> dict[str, list[dict[str, Any]]]:
    """The rows of every task that was measured, by its name."""
    return {
        path.stem.removeprefix("speedups-"): json.loads(path.read_text())["rows"]
        for path in sorted(RESULTS.glob("speedups-*.json"))
    }


def summary(tasks: dict[str, list[dict[str, Any]]]) -> str:
    """Ours beside the best of the designs at each budget, in points of the teacher's score."""
    lines = [
        "| budget | task | TailorBERT | best design | random | points above the best design |",
        "|---|---|---|---|---|---|",
    ]
    for budget in sorted({row["budget"] for rows in tasks.values() for row in rows}):
        gains, ours = [], []
        for task, rows in tasks.items():
            shares = shares_at(rows, budget)
            by_hand = {name: shares[name] for name in DESIGNS if name in shares}
            if OURS not in shares or not by_hand:
                continue
            best = max(by_hand, key=by_hand.__getitem__)
            ours.append(shares[OURS])
            gains.append(100 * (shares[OURS] - by_hand[best]))
            chance = f"{shares['random']:.1%}" if "random" in shares else ""
            lines.append(
                f"| {budget:g}x | {task} | {shares[OURS]:.1%} | {by_hand[best]:.1%} ({best}) "
                f"| {chance} | {gains[-1]:+.1f} |"
            )
        mean, gain = statistics.mean(ours), statistics.mean(gains)
        lines.append(f"| {budget:g}x | mean | {mean:.1%} | | | {gain:+.1f} |")
    return "\n".join(lines)


def against_each(tasks: dict[str, list[dict[str, Any]]]) -> str:
    """Ours beside each design, over the same tasks and seeds: what sticking to one would give."""
    lines = [
        "| budget | design | tasks, seeds | TailorBERT | design | points above it |",
        "|---|---|---|---|---|---|",
    ]
    for budget in sorted({row["budget"] for rows in tasks.values() for row in rows}):
        for design in (*DESIGNS, "random"):
            both = []
            for rows in tasks.values():
                ours, theirs = (by_seed(rows, budget, name) for name in (OURS, design))
                seeds = sorted(ours.keys() & theirs.keys())
                if seeds:
                    both.append([(ours[seed], theirs[seed]) for seed in seeds])
            if not both:
                continue
            # A task counts once, however many seeds it has.
            means = np.array([np.mean(pairs, axis=0) for pairs in both])
            mine, other = 100 * means.mean(axis=0)
            lines.append(
                f"| {budget:g}x | {design} | {len(both)}, {sum(map(len, both))} | {mine:.1f}% "
                f"| {other:.1f}% | {mine - other:+.1f} |"
            )
    return "\n".join(lines)


def by_seed(rows: list[dict[str, Any]], budget: float, design: str) -> dict[int, float]:
    """Of the teacher's test score at a budget, by seed."""
    return {
        row["seed"]: row["test"] / row["teacher_test"]
        for row in rows
        if (row["budget"], row["design"]) == (budget, design)
    }


def shares_at(rows: list[dict[str, Any]], budget: float) -> dict[str, float]:
    """Of the teacher's test score at a budget, by design; means over seeds."""
    names = {row["design"] for row in rows if row["budget"] == budget}
    return {name: statistics.mean(by_seed(rows, budget, name).values()) for name in names}


def plot(tasks: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel for each task."""
    from matplotlib.figure import Figure

    across = 2
    down = -(-len(tasks) // across)
    figure = Figure(figsize=(3.6 * across, 2.6 * down + 0.4), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flat
    for axes, (task, rows) in zip(panels, tasks.items(), strict=False):
        draw(axes, rows)
        axes.set_title(NAMES.get(task, task), loc="left")
    for axes in panels[len(tasks) :]:
        axes.remove()
    highest = max(row["test"] / row["teacher_test"] for rows in tasks.values() for row in rows)
    figure.axes[0].set_ylim(FLOOR, 100 * max(1.0, highest) + 0.5)  # which all share
    figure.supxlabel("budget: speed-up over the teacher", fontsize="medium")
    figure.supylabel("share of the teacher's test score (%)", fontsize="medium")
    marks = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(marks.values()), list(marks), frameon=False, loc="outside upper center", ncols=3
    )
    save_figure(figure, path)


def draw(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Designs side by side at each budget, a mark for each seed."""
    styles = {
        OURS: ("o", PALETTE["chosen"]),
        "TinyBERT's proportions": ("^", PALETTE["teacher"]),
        "thinner": ("v", PALETTE["front"]),
        "fewer layers": ("s", PALETTE["front"]),
        "random": ("x", PALETTE["muted"]),
    }
    budgets = sorted({row["budget"] for row in rows})
    for place, (design, (marker, colour)) in enumerate(styles.items()):
        same = [row for row in rows if row["design"] == design]
        if not same:
            continue
        aside = 0.13 * (place - (len(styles) - 1) / 2)
        at = [budgets.index(row["budget"]) + aside for row in same]
        shares = [100 * row["test"] / row["teacher_test"] for row in same]
        shown = [max(share, FLOOR) for share in shares]
        axes.plot(at, shown, marker, color=colour, label=design, clip_on=False)
        for x, share in zip(at, shares, strict=True):
            if share < FLOOR:  # far below: told, and not drawn to scale
                axes.annotate(
                    f"{share:.0f}%", (x, FLOOR), (0, 6), textcoords="offset points", ha="center"
                )
    axes.set_xticks(range(len(budgets)), [f"{budget:g}x" for budget in budgets])
    axes.set_xlim(-0.5, len(budgets) - 0.5)
    axes.axhline(100, color=PALETTE["muted"], linewidth=1)


if __name__ == "__main__":
    main()
