"""What each part of the method is worth: test scores without it, in the same processor time.

    NAS_DATA=... python benchmarks/ablation.py --task stsb --budget 15 --seeds 0 1

First the whole pipeline runs for one budget. Then each variant does without a part and gives the
time to what is left:

- equal layers: neurons are not spread over the layers of those that race;
- no race: the search's best is developed;
- supernet, inherited: half of the time trains a supernet, whose sub-networks are scored as they
  are; the search's best is developed, from a fit;
- supernet, repaired: the same, but for sub-networks that are corrected in closed form;
- no fit: the pipeline's own architecture begins as a slice of the teacher;
- no search: an architecture drawn at random within the budget, from a fit.

Every training ends with its best weights by validation. A run that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from speedups import OURS, RESULTS, Comparison, recipe_of, save

from nas.pipeline.choosing import choice_stage, read_trials
from nas.pipeline.learning import read_score
from nas.pipeline.measuring import Timer
from nas.pipeline.recipe import Scores
from nas.pipeline.supernet import trained_supernet_stage
from nas.settings import data_folder
from supernet.architecture import Architecture
from supernet.sandwich_settings import SandwichSettings
from supernet.training_settings import TrainingSettings

TRIAL_STEPS = 4
"""Of a supernet's training, from which the time of a step is told."""


class Ablation:
    """One task, seed and budget."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.arguments, self.seed = arguments, seed
        self.recipe = recipe_of(arguments)
        self.whole = Comparison(arguments, seed, arguments.budget, self.recipe)

    def _variant(self, name: str, **changed: Any) -> Comparison:
        """With another recipe, in a workspace of its own: what the whole has done counts anew."""
        recipe = self.recipe.model_copy(update=changed)
        workspace = self.arguments.workspace / name.replace(", ", "-").replace(" ", "-")
        for shared in ("profile", "teacher"):
            source = self.arguments.workspace / shared
            shutil.copytree(source, workspace / shared, dirs_exist_ok=True)
        arguments = argparse.Namespace(**{**vars(self.arguments), "workspace": workspace})
        return Comparison(arguments, self.seed, self.arguments.budget, recipe)

    def without(self, name: str, ours: dict[str, Any]) -> dict[str, Any]:
        """What comes out without a part, in the time that the whole took."""
        seconds = ours["seconds"]
        own = Architecture.from_dict(ours["layers"])
        done: dict[str, Callable[[], dict[str, Any]]] = {
            "equal layers": self._equal_layers,
            "no race": lambda: self._best_of_search("fitted", seconds),
            "supernet, inherited": lambda: self._best_of_search("inherited", seconds),
            "supernet, repaired": lambda: self._best_of_search("repaired", seconds),
            "no fit": lambda: {
                "architecture": ours["architecture"],
                **self.whole.developed(own, seconds, fitted=False),
            },
            "no search": lambda: self._guess(seconds),
        }
        return done[name]()

    def _equal_layers(self) -> dict[str, Any]:
        race = self.recipe.race
        assert race is not None, "the recipe has a race"
        equal = race.model_copy(update={"unequal": 0})
        return self._variant("equal layers", race=equal).ours()

    def _best_of_search(self, scores: Scores, seconds: float) -> dict[str, Any]:
        steps, settings = 0, None
        if scores != "fitted":
            steps = max(1, round(seconds / 2 / self._seconds_of_a_step))
            settings = sandwich(steps)
        variant = self._variant(f"{scores}, no race", scores=scores, supernet=settings, race=None)
        pipeline = variant.pipeline
        began = time.process_time()
        _ = pipeline.guide.supernet
        recipe, (aim,) = variant.recipe, variant.request.aims
        timer = Timer(aim, pipeline.original, recipe.timing_rounds, recipe.headroom)
        stage = choice_stage(pipeline.search, 0, timer, recipe.candidates, ())
        choice = pipeline.bench.make(stage)
        spent = time.process_time() - began
        trial = read_trials(choice.path)[-1]
        told = self.whole.developed(trial.architecture, seconds - spent)
        return {
            **told,
            "architecture": str(trial.architecture),
            "speedup": trial.teacher_p50_ms / trial.p50_ms,
            "search_seconds": spent,
            "supernet_steps": steps,
            "seconds": spent + told["seconds"],
        }

    @cached_property
    def _seconds_of_a_step(self) -> float:
        """Of a supernet's training: what twice as many steps take longer."""

        def spent(steps: int) -> float:
            variant = self._variant(
                "trial", scores="inherited", supernet=sandwich(steps), race=None
            )
            pipeline = variant.pipeline
            _ = pipeline.guide.supernet
            stage = trained_supernet_stage(
                variant.request, pipeline.space, pipeline.teacher, pipeline.task, pipeline.guide
            )
            began = time.process_time()
            pipeline.bench.make(stage)
            return time.process_time() - began

        return (spent(3 * TRIAL_STEPS) - spent(TRIAL_STEPS)) / (2 * TRIAL_STEPS)

    def _guess(self, seconds: float) -> dict[str, Any]:
        ((_, trial),) = self.whole.others(["random"])
        told = self.whole.developed(trial.architecture, seconds)
        speedup = trial.teacher_p50_ms / trial.p50_ms
        return {**told, "architecture": str(trial.architecture), "speedup": speedup}


def sandwich(steps: int) -> SandwichSettings:
    """Labels, predictions and states, as students learn from them."""
    training = TrainingSettings(steps=steps, batch_size=32, learning_rate=3e-4)
    return SandwichSettings(training=training, hidden_weight=1.0)


VARIANTS = (
    "equal layers",
    "no race",
    "supernet, inherited",
    "supernet, repaired",
    "no fit",
    "no search",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="stsb", help="a folder under NAS_DATA")
    parser.add_argument("--space", default="minilm")
    parser.add_argument("--target", default="cpu-1-thread")
    parser.add_argument("--recipe", default="standard")
    parser.add_argument("--limit", type=int, default=None, help="training examples at most")
    parser.add_argument("--budget", type=float, default=9.4, help="speed-up")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--workspace", type=Path, default=Path("tailorbert-workspace"))
    arguments = parser.parse_args()
    if data_folder() is None:
        raise SystemExit("set NAS_DATA to the folder of data sets")
    torch.set_num_threads(1)
    path = RESULTS / f"ablation-{arguments.task}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []
    for seed in arguments.seeds:
        ablate(arguments, seed, rows, path)
    print(table(rows))


def ablate(
    arguments: argparse.Namespace, seed: int, rows: list[dict[str, Any]], path: Path
) -> None:
    """Add the rows of one seed that are missing."""
    known = {row["variant"]: row for row in rows if row["seed"] == seed}
    if {OURS, *arguments.variants} <= set(known):
        return
    ablation = Ablation(arguments, seed)
    pipeline = ablation.whole.pipeline
    teacher = read_score(pipeline.teacher, pipeline.task.data.task, "test")

    def add(name: str, row: dict[str, Any]) -> None:
        rows.append({"seed": seed, "variant": name, "teacher_test": teacher} | row)
        known[name] = rows[-1]
        save(path, rows, arguments, ablation.recipe)

    if OURS not in known:
        add(OURS, ablation.whole.ours())
    for name in arguments.variants:
        if name not in known:
            add(name, ablation.without(name, known[OURS]))


def table(rows: list[dict[str, Any]]) -> str:
    """Shares of the teacher's test score, and what is lost to the whole, by seed."""
    lines = [
        "| variant | architectures | of the teacher's | less than the whole, points |",
        "|---|---|---|---|",
    ]
    whole = {row["seed"]: row for row in rows if row["variant"] == OURS}
    for name in (OURS, *VARIANTS):
        same = [row for row in rows if row["variant"] == name]
        if not same:
            continue
        shares = [row["test"] / row["teacher_test"] for row in same]
        lost = [
            100 * (whole[row["seed"]]["test"] / row["teacher_test"] - share)
            for row, share in zip(same, shares, strict=True)
        ]
        lines.append(
            f"| {name} | {', '.join(row['architecture'] for row in same)} "
            f"| {statistics.mean(shares):.1%} | {', '.join(f'{one:.1f}' for one in lost)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
