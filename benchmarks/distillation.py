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
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from equal_time import Bench, Method, stage
from result_files import origin, save_figure, write_result
from rich.console import Console
from rich.table import Table

from supernet.architecture import Architecture
from supernet.distill.stage import Losses, Mixup, Replacement

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
    result |= origin(bench.target)
    if "students" not in result:
        result["students"] = bench.latencies(STUDENTS | {"as wide": AS_WIDE})
    for seed in arguments.seeds:
        for task in arguments.tasks:
            for student in arguments.students:
                for name in arguments.methods:
                    key = f"{task}/{student}/{name}/{seed}/{arguments.seconds:g}s"
                    if key not in result["runs"]:
                        method = METHODS[name]
                        begin = method.begin(AS_WIDE if method.as_wide else STUDENTS[student])
                        result["runs"][key], _ = bench.train(task, seed, method, begin)
                        bench.display.say(f"{key}: {result['runs'][key]}")
                        write_result(path, result)
    show(result, arguments.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=["trec", "stsb", "cola"],
        help="folders of NAS_DATA; sst2@673 takes so many training examples, 1%% of them",
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
    save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    main()
