"""``nas quantize``, ``compare``, ``evaluate`` and ``try``: finished models, on data and here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from nas.commands.options import (
    DataOption,
    LabelOption,
    MetricOption,
    RecipeOption,
    SeedOption,
    StudentOutput,
    TargetOption,
    TextOption,
    out,
    read_task,
)
from nas.terminal.progress import silence
from supernet.errors import NasError


def quantize(
    model: Annotated[Path, typer.Argument(help="A model folder, or the output of a nas command.")],
    output: StudentOutput,
    form: Annotated[
        str,
        typer.Option(
            help="`dynamic` measures the ranges of activations in each call; `static` fixes them "
            "beforehand by training examples."
        ),
    ] = "dynamic",
    data: DataOption = "pydoc",
    target: TargetOption = "cpu",
    recipe: RecipeOption = "full",
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    seed: SeedOption = 0,
) -> None:
    """Write a model in 8 bits for ONNX Runtime, and show the change in score and speed.

    Float32 and both forms of int8 are scored and timed side by side; the one asked for is written.

    **Example:** `nas quantize fast-model --data my-data/ -o int8-model`
    """
    from latency.options import load_target
    from nas.models.measured import model_folder
    from nas.pipeline.recipe import load_recipe

    folder, where = model_folder(model), load_target(target)
    silence()
    from nas.models.quantize import quantize_folder

    task = read_task(data, text, label, metric, seed)
    length = load_recipe(recipe).max_length
    found = quantize_folder(folder, task, where, form, output, max_length=length)
    name = task.task.metric
    table = Table("form", f"{name}, validation", f"{name}, test", "p50 ms", "p95 ms", "MB")
    for one in found:
        table.add_row(
            one.name,
            f"{one.validation:.4f}",
            f"{one.test:.4f}",
            f"{one.p50_ms:.3g}",
            f"{one.p95_ms:.3g}",
            f"{one.megabytes:.3g}",
        )
    out.print(table)
    out.print(f"{output}: {form}")


def compare(
    models: Annotated[
        list[Path], typer.Argument(help="Model folders, or outputs of nas commands.")
    ],
    data: DataOption = "pydoc",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    target: TargetOption = "cpu",
    recipe: RecipeOption = "full",
    plot: Annotated[
        Path | None, typer.Option(help="Also draw the comparison into this PNG or SVG file.")
    ] = None,
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    seed: SeedOption = 0,
) -> None:
    """Score several models on the same data, and time them side by side.

    **Example:** `nas compare teacher fast-model small --data my-data/ --plot models.png`
    """
    from latency.drawing import check_plot
    from latency.options import load_target
    from nas.pipeline.recipe import load_recipe

    if plot is not None:
        check_plot(plot)
    silence()
    from nas.data.held_out import load_held_out
    from nas.models.compare import compare_folders, comparison_plot
    from nas.models.measured import model_folder, model_head

    where = load_target(target)
    length = load_recipe(recipe).max_length
    first, *_ = [model_folder(model) for model in models]
    held_out = load_held_out(
        data, split, model_head(first), text_columns=text, label_column=label, metric=metric,
        seed=seed,
    )  # fmt: skip
    found = compare_folders(models, held_out, where, max_length=length)
    table = Table(
        "model", "architecture", "parameters", "MB", held_out.task.metric, "p50 ms", "p95 ms"
    )
    for one in found:
        table.add_row(
            one.name,
            one.architecture,
            f"{one.parameters:,}",
            f"{one.megabytes:.3g}",
            f"{one.score:.4f}",
            f"{one.latency.p50_ms:.3g}",
            f"{one.latency.p95_ms:.3g}",
        )
    out.print(f"{held_out.told}; {where}")
    out.print(table)
    if plot is not None:
        comparison_plot(found, held_out.task.metric).savefig(plot, dpi=200)
        out.print(f"drawn in {plot}")


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder, or the output of `nas search`.")],
    data: DataOption = "pydoc",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    target: TargetOption = "cpu",
    recipe: RecipeOption = "full",
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    seed: SeedOption = 0,
) -> None:
    """Score a model on data and time it on this device.

    A file is scored whole, and so is a folder without training data. A folder with a `train` file,
    `pydoc` and data sets of the hub are split as `nas search` splits them: give the same seed for
    the same examples, and the same recipe for the same limit of tokens.

    **Example:** `nas evaluate fast-model --data my-data/`
    """
    silence()
    from latency.options import load_target
    from nas.data.held_out import load_held_out
    from nas.models.compare import evaluate_folder
    from nas.models.measured import model_folder, model_head
    from nas.pipeline.recipe import load_recipe

    folder, where = model_folder(model), load_target(target)
    held_out = load_held_out(
        data, split, model_head(folder), text_columns=text, label_column=label, metric=metric,
        seed=seed,
    )  # fmt: skip
    found = evaluate_folder(folder, held_out, where, max_length=load_recipe(recipe).max_length)
    table = Table("what", "value")
    for name, value in found.items():
        table.add_row(name, value)
    out.print(table)


def try_texts(
    model: Annotated[Path, typer.Argument(help="A model folder, or the output of a nas command.")],
    texts: Annotated[list[str], typer.Argument(help="What to answer to, each in quotes.")],
    second: Annotated[
        list[str] | None,
        typer.Option(help="The second text of a pair; give one for each text, in their order."),
    ] = None,
    target: TargetOption = "cpu",
) -> None:
    """Ask a model for single texts: its answer, how sure it is, and how long it takes here.

    The model's `model.onnx` answers, as it would be served.

    **Example:** `nas try fast-model "Which city is the capital of Peru?"`
    """
    from latency.options import load_target
    from nas.data.task_data import Examples
    from nas.models.measured import model_folder

    folder, where = model_folder(model), load_target(target)
    if second is not None and len(second) != len(texts):
        raise NasError(
            f"--second: {len(second)} given for {len(texts)} texts; give one for each, or none"
        )
    silence()
    from nas.models.single_texts import answers

    asked = Examples(tuple(texts), None if second is None else tuple(second))
    table = Table("text", "answer", "confidence", "ms", "tokens")
    for number, one in enumerate(answers(folder, asked, where)):
        pair = texts[number] if second is None else f"{texts[number]} / {second[number]}"
        table.add_row(
            Text(pair, overflow="ellipsis", no_wrap=True),
            Text(one.told),
            "" if one.confidence is None else f"{one.confidence:.1%}",
            f"{one.milliseconds:.3g}",
            f"{one.tokens}, cut" if one.is_cut else str(one.tokens),
        )
    out.print(table)
    out.print(f"onnxruntime, threads: {where.threads}")
