"""Kronecker products against truncated singular values and fewer units, of equal size.

    NAS_DATA=data python benchmarks/kronecker.py --task trec --ratios 2 5 10 19
    python benchmarks/kronecker.py --time  # on a quiet machine

The default teacher, fine-tuned for a task, and a student about 9.4 times as fast are made 2 to 19
times smaller: by one or four Kronecker products a matrix, by truncated singular values, and by
fewer units. ``nearest`` factors are those of KroneckerBERT, nearest by weights; all others are
fitted to what the original computes. All of a size learn for the same processor time, which the fit
counts for, from one teacher. ``--time`` adds latencies: of the ONNX models, with factors as such
and with their matrices formed. BERT-base's own parameters at 19 times are counted too; that needs
no weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import onnx
import torch
from distillation import STUDENTS
from equal_time import Begin, Bench, Method, Texts, fitted, stage
from result_files import origin, save_figure, write_result
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from latency.atomic import write_text
from latency.beside import held, time_models
from latency.drawing import log_axis
from latency.options import load_target
from latency.runtimes import runtime_of
from latency.target import Target
from nas.models.export import onnx_model
from supernet.architecture import Architecture, EncoderShape
from supernet.compress.kronecker import densified, factorized, plan
from supernet.distill.fitted_start import fit_to_teacher
from supernet.distill.stage import Losses, Replacement
from supernet.errors import NasError
from supernet.factors import Rule, low_rank, sums_of
from supernet.model import Supernet
from supernet.modeling_tailorbert import TailorBertConfig, TailorBertForSequenceClassification
from supernet.student import shape_of, tailored

LEARN = stage("task", losses=Losses(hard=0.3, soft=1.0, hidden=1.0), temperature=2.0, rate=1e-4)
METHOD = Method(((LEARN, 1.0),))
NARROW = Method(((stage("task", losses=LEARN.losses, temperature=2.0, rate=3e-4), 1.0),))
"""Each with the learning rate that suited it on validation data."""
THESEUS = Method(
    (
        (
            stage(
                "replace",
                losses=Losses(hard=1.0),
                replacement=Replacement(0.3, 2e-3),
                trained="layers",
                rate=1e-4,
            ),
            0.5,
        ),
        (LEARN, 0.5),
    )
)
DESIGNS: dict[str, tuple[Rule, bool, Method]] = {
    "1 product, nearest": (sums_of(1), False, METHOD),
    "1 product": (sums_of(1), True, METHOD),
    "1 product, Theseus": (sums_of(1), True, THESEUS),
    "4 products": (sums_of(4), True, METHOD),
    "truncated SVD": (low_rank, True, METHOD),
}
"""Rule, whether factors are fitted, training."""
FEWER = "fewer units"


def main() -> None:
    arguments = parse()
    path = arguments.workspace / "kronecker.json"  # with each model's configuration
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    torch.set_num_threads(1)
    target = load_target(arguments.target)
    if arguments.time:
        for run in track(result["runs"].values(), "Time the models"):
            if "config" in run:
                run["forms"] = timed(TailorBertConfig(**run["config"]), target)
                write_text(path, json.dumps(result))
        show(result, arguments.output)
        return
    bench = Bench(arguments)
    result |= origin(target)
    result["BERT-base at 19x"] = bert_base(19.0)
    for original in arguments.originals:
        for ratio in arguments.ratios:
            for name, method, begin in designs(original, ratio):
                run = f"{arguments.seed}/{arguments.seconds:g}s"
                key = f"{arguments.task}/{original}/{ratio:g}/{name}/{run}"
                if key in result["runs"]:
                    continue
                try:
                    told, model = bench.train(arguments.task, arguments.seed, method, begin)
                except NasError as error:
                    told = {"impossible": str(error)}
                else:
                    told["config"] = tailored(model.config).to_diff_dict()
                result["runs"][key] = told
                bench.display.say(f"{key}: {told}")
                write_text(path, json.dumps(result))
    show(result, arguments.output)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="trec")
    parser.add_argument("--originals", nargs="+", default=["teacher", "9.4x"])
    parser.add_argument("--ratios", nargs="+", type=float, default=[2.0, 5.0, 10.0, 19.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=120.0, help="of a training, on one thread")
    parser.add_argument("--limit", type=int, default=10_000)
    parser.add_argument("--target", default="cpu-1-thread")
    parser.add_argument("--workspace", type=Path, default=Path("distillation-workspace"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--time", action="store_true", help="measure latencies; train nothing")
    return parser.parse_args()


def designs(original: str, ratio: float) -> Iterator[tuple[str, Method, Begin]]:
    """Name, training and beginning of every way to be ``ratio`` times smaller."""

    def whole(guide: Supernet, texts: Texts) -> PreTrainedModel:
        if original == "teacher":
            return guide.weights
        return fitted(STUDENTS[original])(guide, texts)

    for name, (rule, is_fitted, method) in DESIGNS.items():
        if method is THESEUS and original != "teacher":
            continue  # its layers take the places of layers as wide

        def compressed(
            guide: Supernet, texts: Texts, rule: Rule = rule, is_fitted: bool = is_fitted
        ) -> PreTrainedModel:
            model = whole(guide, texts)
            small = factorized(model, plan(model, int(model.num_parameters() / ratio), rule))
            if is_fitted:
                fit_to_teacher(small, model, texts)
            return small

        yield name, method, compressed

    def smaller(guide: Supernet, texts: Texts) -> PreTrainedModel:
        full = guide.largest if original == "teacher" else STUDENTS[original]
        parameters = int(full.parameters(guide.shape) / ratio)
        return fitted(widest(full.num_layers, parameters, guide.shape))(guide, texts)

    yield FEWER, NARROW, smaller


def widest(layers: int, parameters: int, shape: EncoderShape) -> Architecture:
    """BERT's proportions, heads of 16 or 32, at the largest width within ``parameters``."""
    for hidden in range(384, 4, -4):
        heads = max(h for h in range(1, 13) if hidden % h == 0)
        found = Architecture.uniform(
            num_layers=layers, hidden_size=hidden, num_heads=heads, intermediate_size=4 * hidden
        )
        if found.parameters(shape) <= parameters:
            return found
    raise NasError(f"no dense model of {layers} layers has {parameters:,} parameters or fewer")


def timed(config: TailorBertConfig, target: Target) -> dict[str, float]:
    """Milliseconds of both forms, side by side; weights do not matter."""
    model = TailorBertForSequenceClassification(config).eval()
    graphs: dict[str, PreTrainedModel] = {"dense": model}
    if config.factors:
        graphs = {"factored": model, "dense": densified(model)}
    runtime = runtime_of(target)
    with tempfile.TemporaryDirectory() as scratch, held(target):
        loaded = []
        for name, one in graphs.items():
            onnx.save(onnx_model(one), f"{scratch}/{name}.onnx")
            loaded.append(runtime.load(Path(scratch) / f"{name}.onnx", target))
        found = time_models(loaded, target, shape_of(config))
    return {name: latency.p50_ms for name, latency in zip(graphs, found, strict=True)}


def bert_base(ratio: float) -> dict[str, Any]:
    """What BERT-base has, and what is left of it by each rule."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    whole = model.num_parameters()
    found: dict[str, Any] = {"parameters": whole}
    for name in ("1 product", "4 products", "truncated SVD"):
        factors = plan(model, int(whole / ratio), DESIGNS[name][0])
        dense = {n: m.weight.numel() for n, m in model.bert.named_modules() if n in factors}
        left = whole - sum(dense.values()) + sum(one.parameters for one in factors.values())
        shapes = sorted({f"{f.left}x{f.right}x{f.terms}" for f in factors.values()})
        found[name] = {"parameters": left, "ratio": whole / left, "factors": shapes}
    return found


# ---- analysis ---------------------------------------------------------------------------------


def show(result: dict[str, Any], folder: Path) -> None:
    """A table of all runs, and their scores over parameters and over milliseconds.

    What is written are the runs without the configurations, which only timing needs.
    """
    told = {
        key: {name: value for name, value in run.items() if name != "config"}
        for key, run in result["runs"].items()
    }
    write_result(folder / "kronecker.json", result | {"runs": told})
    table = Table("original", "smaller", "design", "parameters", "untrained", "test", "ms")
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for key, run in result["runs"].items():
        _task, original, ratio, name, _seed, _seconds = key.split("/")
        if "impossible" in run:
            table.add_row(original, f"{ratio}x", name, run["impossible"])
            continue
        forms = ", ".join(f"{form} {ms:.3g}" for form, ms in run.get("forms", {}).items())
        table.add_row(
            original, f"{ratio}x", name, f"{run['parameters']:,}",
            f"{run['untrained_test']:.3f}", f"{run['test']:.3f}", forms,
        )  # fmt: skip
        runs.setdefault(original, {}).setdefault(name, []).append(run)
    Console(width=140).print(table)
    figure, axes = plt.subplots(
        2, len(runs), figsize=(5.5 * len(runs), 7.5), squeeze=False, sharey="col",
        layout="constrained",
    )  # fmt: skip
    colours = {name: f"C{place}" for place, name in enumerate([*DESIGNS, FEWER])}
    for column, (original, by_name) in enumerate(runs.items()):
        for row, (label, across) in enumerate(
            [
                ("parameters (millions)", lambda run: run["parameters"] / 1e6),
                ("p50 of the faster form (ms)", lambda run: min(run["forms"].values())),
            ]
        ):
            axis = axes[row][column]
            for name, found in by_name.items():
                timed = [run for run in found if row == 0 or "forms" in run]
                points = np.array(sorted((across(run), 100 * run["test"]) for run in timed))
                axis.plot(*points.reshape(-1, 2).T, "o-", color=colours[name], label=name)
            log_axis(axis, "x")
            axis.set(xlabel=label, ylabel="test score (%)")
            axis.grid(alpha=0.3)
        axes[0][column].set_title(
            f"of the {original}" if original == "teacher" else f"of a {original} student"
        )
        axes[0][column].legend()
    save_figure(figure, folder / "kronecker.png")
    plt.close(figure)


if __name__ == "__main__":
    main()
