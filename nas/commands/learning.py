"""``nas finetune``, ``distill`` and ``compress``: what trains one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from nas.commands.options import (
    WORKSPACE,
    DataOption,
    DistillRecipeOption,
    LabelOption,
    LabelsOption,
    MetricOption,
    RecipeOption,
    SeedOption,
    StudentArgument,
    StudentOutput,
    TargetOption,
    TeacherOption,
    TextOption,
    WorkspaceOption,
    new_bench,
    new_lesson,
    out,
    read_task,
)
from nas.terminal.progress import Display, silence


def finetune(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder that receives the teacher.")
    ],
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    recipe: RecipeOption = "full",
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    seed: SeedOption = 0,
) -> None:
    """Train a teacher on your data: its head and all layers below.

    `nas search` does this by itself for a teacher without a head. Use this command to replace a
    head that was trained for other labels, or to look at the teacher first.

    **Example:** `nas finetune --data my-data/ -o teacher && nas search --teacher teacher ...`
    """
    silence()
    from nas.data.summary import told_of
    from nas.models.finetune import finetune_to_folder
    from nas.pipeline.recipe import load_recipe

    task = read_task(data, text, label, metric, seed)
    for line in told_of(task):
        out.print(f"data      {line}", soft_wrap=True)
    scores = finetune_to_folder(
        teacher,
        task,
        load_recipe(recipe).finetune,
        output,
        max_length=load_recipe(recipe).max_length,
        seed=seed,
        display=Display(),
    )
    out.print(f"{output}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))


def distill(
    student: StudentArgument,
    output: StudentOutput,
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    recipe: DistillRecipeOption = "full",
    workspace: WorkspaceOption = WORKSPACE,
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    labels: LabelsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Distil a teacher into one student, without a search.

    Recipes of published methods: `finetune`, `kd`, `tinybert`, `mixkd`, `theseus`,
    `autotinybert`. Recipe `best` scored highest in our measurements. Copy a recipe to a YAML file
    to change its losses, data and durations.

    **Example:** `nas distill architecture.json --recipe tinybert --data my-data/ -o student`

    The output folder holds `model/`, `model.onnx` and `distillation.json`. After an interruption,
    the same command continues from the last checkpoint.
    """
    lesson = new_lesson(teacher, data, recipe, text, label, metric, seed, labels=labels)
    bench = new_bench(workspace)
    from nas.pipeline.pipeline import run_distillation

    _tell(output, run_distillation(lesson, student, output, bench))


def compress(
    student: StudentArgument,
    output: StudentOutput,
    ratio: Annotated[
        float, typer.Option(min=1.01, help="How many times fewer parameters the result has.")
    ],
    terms: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Kronecker products that are summed for a matrix; without it, as many columns "
            "times rows as the ratio allows.",
        ),
    ] = None,
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    target: TargetOption = "cpu",
    recipe: DistillRecipeOption = "best",
    workspace: WorkspaceOption = WORKSPACE,
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    labels: LabelsOption = None,
    seed: SeedOption = 0,
) -> None:
    """Make a student smaller by factoring its matrices, and distil it.

    Word embeddings and all large matrices become sums of columns times rows, or of as many
    Kronecker products as `--terms` says. With `start: fitted` in the recipe they are fitted to what
    the student computes, else to its weights; then the recipe trains them. KroneckerBERT's own
    method is `--terms 1 --recipe kronecker`. A smaller model is not always faster: the factored
    form and the form with whole matrices are both timed on the target, and `model.onnx` is the
    faster one.

    **Example:** `nas compress my-model/ --ratio 5 --data my-data/ -o small`
    """
    from latency.options import load_target
    from nas.pipeline.compressing import Kronecker

    kronecker, where = Kronecker(ratio, terms), load_target(target)
    lesson = new_lesson(teacher, data, recipe, text, label, metric, seed, labels=labels)
    bench = new_bench(workspace)
    from nas.pipeline.pipeline import run_distillation

    told = run_distillation(lesson, student, output, bench, kronecker=kronecker, target=where)
    table = Table("form", "p50 ms", "p95 ms", "ONNX file, MB")
    for form in told["forms"]:
        table.add_row(
            form["name"],
            f"{form['p50_ms']:.3g}",
            f"{form['p95_ms']:.3g}",
            f"{form['megabytes']:.3g}",
        )
    out.print(table)
    _tell(output, told)


def _tell(output: Path, told: dict[str, Any]) -> None:
    out.print(
        f"{output}: {told['metric']} {told['score']['test']:.4f} on test, the teacher's "
        f"{told['teacher_score']['test']:.4f}; {told['parameters']:,} parameters"
    )
