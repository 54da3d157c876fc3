"""Int8 beside float32: score and latency of a teacher and of a student about nine times as fast.

    NAS_DATA=data python benchmarks/int8.py --tasks trec stsb

The student is trained as the best method of benchmarks/distillation.py trains it, and kept in the
workspace. All forms of a model are timed side by side: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from distillation import METHODS, STUDENTS
from equal_time import Bench
from result_files import origin, write_result
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from nas.models.quantize import quantize_folder
from nas.pipeline.recipe import load_recipe
from nas.store.result_folder import MODEL


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    bench = Bench(arguments)
    result: dict[str, Any] = origin(bench.target) | {"target": bench.target.to_dict(), "runs": []}
    for task in arguments.tasks:
        for name, folder in models(bench, task, arguments).items():
            for form in measured(bench, folder, task, arguments):
                result["runs"].append({"task": task, "model": name, **form})
    write_result(arguments.output / "int8.json", result)
    show(result)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["trec", "stsb"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120.0, help="of a training, on one thread")
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--target", default="cpu-1-thread")
    parser.add_argument("--workspace", type=Path, default=Path("distillation-workspace"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    return parser.parse_args()


def models(bench: Bench, task: str, arguments: argparse.Namespace) -> dict[str, Path]:
    """Folders of the fine-tuned teacher and of its student."""
    teacher = bench.ground(task, arguments.seed, recipe(arguments)).teacher.path / MODEL
    student = arguments.workspace / "int8" / f"{task}-{arguments.seed}-{arguments.seconds:g}s"
    if not student.exists():
        best = METHODS["best"]
        told, model = bench.train(task, arguments.seed, best, best.begin(STUDENTS["9.4x"]))
        bench.display.say(f"{task}: {told}")
        tokenizer = AutoTokenizer.from_pretrained(teacher)
        scratch = student.with_name(f"{student.name}.partial")
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        scratch.rename(student)
    return {"teacher": teacher, "student": student}


def recipe(arguments: argparse.Namespace) -> Any:
    return load_recipe("full").model_copy(update={"limit": arguments.limit})


def measured(
    bench: Bench, folder: Path, task: str, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every form of a model: scores, milliseconds, megabytes."""
    data = bench.ground(task, arguments.seed, recipe(arguments)).data
    with tempfile.TemporaryDirectory() as scratch:
        forms = quantize_folder(
            folder, data, bench.target, "dynamic", Path(scratch) / "int8",
            max_length=recipe(arguments).max_length,
        )  # fmt: skip
    return [asdict(form) for form in forms]


def show(result: dict[str, Any]) -> None:
    table = Table("task", "model", "form", "test", "p50 ms", "p95 ms", "MB")
    for run in result["runs"]:
        table.add_row(
            run["task"], run["model"], run["name"], f"{100 * run['test']:.1f}",
            f"{run['p50_ms']:.2f}", f"{run['p95_ms']:.2f}", f"{run['megabytes']:.1f}",
        )  # fmt: skip
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
