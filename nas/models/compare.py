"""Finished models side by side: their scores, latencies and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from latency.beside import held, time_models
from latency.drawing import PALETTE, canvas, log_axis, style
from latency.target import Latency, Target
from nas.data.held_out import HeldOut
from nas.data.tokenization import encode
from nas.models.evaluate import collator
from nas.models.measured import load_model, model_folder, score_as_served, served
from nas.tasks.labels import align_labels, check_labels
from supernet.student import architecture_of, shape_of


@dataclass(frozen=True)
class Measured:
    """What there is to compare of a model.

    Args:
        name: its folder's.
        score: by the task's metric.
        megabytes: see :class:`nas.models.measured.Served`.
    """

    name: str
    architecture: str
    parameters: int
    megabytes: float
    score: float
    latency: Latency


def compare_folders(
    paths: Sequence[Path], held_out: HeldOut, target: Target, *, max_length: int
) -> list[Measured]:
    """Score every model, and time all of them side by side.

    Raises:
        NasError: a folder without a model, or with one for other labels.
    """
    task, examples = held_out.task, held_out.examples
    folders = [model_folder(path) for path in paths]
    loaded = [load_model(folder) for folder in folders]
    shapes = [shape_of(model.config) for model, _ in loaded]
    shape = replace(
        shapes[0],
        vocab_size=min(one.vocab_size for one in shapes),
        type_vocab_size=min(one.type_vocab_size for one in shapes),
    )
    ready, scores = [], []
    for path, folder, (model, tokenizer) in zip(paths, folders, loaded, strict=True):
        check_labels(f"model {path}", model.config, task)
        order = align_labels(model, task)
        with held(target):
            ready.append(served(model, folder, target, order))
        encoded = encode(examples, tokenizer, max_length)
        scores.append(
            score_as_served(model, ready[-1].run, target, encoded, collator(tokenizer), task.metric)
        )
    latencies = time_models([one.run for one in ready], target, shape)
    return [
        Measured(
            str(path),
            str(architecture_of(model.config)),
            model.num_parameters(),
            one.megabytes,
            value,
            latency,
        )
        for path, (model, _), one, value, latency in zip(
            paths, loaded, ready, scores, latencies, strict=True
        )
    ]


def evaluate_folder(
    folder: Path, held_out: HeldOut, target: Target, *, max_length: int
) -> dict[str, str]:
    """What there is to say of one model, name by value, for people.

    Raises:
        NasError: as :func:`compare_folders`.
    """
    (found,) = compare_folders([folder], held_out, target, max_length=max_length)
    return {
        "architecture": found.architecture,
        "parameters": f"{found.parameters:,}",
        f"{held_out.task.metric} ({held_out.told}, {len(held_out.examples)} examples)": (
            f"{found.score:.4f}"
        ),
        "target": str(target),
        "p50": f"{found.latency.p50_ms:.3f} ms",
        "p95": f"{found.latency.p95_ms:.3f} ms",
    }


def comparison_plot(found: Sequence[Measured], metric: str) -> Figure:
    """Score over latency; a point's area is its model's size, its number stands in the legend."""
    latency = np.array([one.latency.p50_ms for one in found])
    scores = np.array([one.score for one in found])
    sizes = np.array([one.megabytes for one in found])
    with style():
        figure, axes = canvas()
        axes.scatter(
            latency, scores, s=20 + 500 * sizes / sizes.max(), color=PALETTE["front"], alpha=0.5
        )
        for number, one in enumerate(found, start=1):
            place = one.latency.p50_ms, one.score
            axes.annotate(str(number), place, ha="center", va="center", fontsize="small")
            label = f"{number}  {Path(one.name).name}, {one.megabytes:.3g} MB"
            axes.plot([], [], " ", label=label)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=0)
        axes.margins(0.2)  # room for the points' areas
        log_axis(axes, "x")
        axes.set(xlabel="latency, p50 (ms)", ylabel=metric)
    return figure
