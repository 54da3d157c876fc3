"""Options that several commands share, and how a command sets up a run.

Heavy packages are imported within functions, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nas.terminal.progress import Display, silence

out = Console(highlight=False, markup=False)

TeacherOption = Annotated[
    str,
    typer.Option(
        help="A BERT-like model: a folder, a Hugging Face hub id, or `minilm`, which is embedded."
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        help="A folder of train/validation/test files (Parquet, CSV, JSONL), one file, a hub name, "
        "or `pydoc`, which is built from the packages installed here."
    ),
]
SpaceOption = Annotated[
    str | None,
    typer.Option(
        help="Architectures to choose from: a name under configs/spaces, or a YAML file. By "
        "default `minilm`, or `autotinybert-kd` for teachers wider than 384 with 12 heads or more."
    ),
]
TargetOption = Annotated[
    str,
    typer.Option(help="Where the model will serve: a name under configs/targets, or a YAML file."),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        help="How much work to put in: a name under configs/recipes (on two cores `quick` takes "
        "4 to 8 minutes, `standard` 6 to 12, `full` longer), or a YAML file."
    ),
]
DistillRecipeOption = Annotated[
    str,
    typer.Option(
        help="How the student learns: a name under configs/recipes, or a YAML file. Only its "
        "`distill` is used, and what prepares the data and the teacher."
    ),
]
WorkspaceOption = Annotated[
    str,
    typer.Option(
        help="Where finished stages are kept: a folder, or a URL of storage that machines share, "
        "such as `s3://bucket/team`. With the same workspace a second budget costs seconds, and a "
        "run that was killed goes on where it was."
    ),
]
TextOption = Annotated[
    list[str] | None,
    typer.Option("--text", help="The text's column; give it twice for pairs. Guessed if left out."),
]
LabelOption = Annotated[str, typer.Option("--label", help="The label's column.")]
MetricOption = Annotated[
    str | None,
    typer.Option(
        help="accuracy, f1, matthews or pearson_spearman; by default accuracy for classes and "
        "pearson_spearman for numbers."
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        help="The names of a teacher's classes in the order of its head, as `no,maybe,yes`: for a "
        "head whose configuration calls them LABEL_0, LABEL_1, and so on."
    ),
]
SeedOption = Annotated[
    int, typer.Option(min=0, max=2**32 - 1, help="The seed of all random choices.")
]
StudentArgument = Annotated[
    str,
    typer.Argument(
        help="The student: a model folder, a result of `nas search`, or an architecture as JSON or "
        "in a JSON file. An architecture's first weights are those of the recipe's `start`."
    ),
]
StudentOutput = Annotated[
    Path, typer.Option("--output", "-o", help="The folder that receives the model.")
]
WORKSPACE = "tailorbert-workspace"


def read_task(data: str, text: list[str] | None, label: str, metric: str | None, seed: int) -> Any:
    """The task's data, split."""
    from nas.data.task_data import load_data

    return load_data(data, text_columns=text, label_column=label, metric=metric, seed=seed)


def split_labels(text: str) -> tuple[str, ...]:
    """The names in a text that separates them by commas."""
    return tuple(name.strip() for name in text.split(","))


def new_lesson(
    teacher: str,
    data: str,
    recipe: str,
    text: list[str] | None,
    label: str,
    metric: str | None,
    seed: int,
    algorithm: str | None = None,
    labels: str | None = None,
) -> Any:
    """What is to be learnt, its recipe checked before anything heavy is imported.

    Args:
        algorithm: of the search, in place of the recipe's.
        labels: of the teacher's head, with commas between.
    """
    from nas.pipeline.recipe import load_recipe

    settings = load_recipe(recipe)
    if algorithm is not None:
        chosen = replace(settings.search, algorithm=algorithm)
        settings = settings.model_copy(update={"search": chosen})
    from nas.pipeline.request import Lesson

    return Lesson(
        teacher=teacher,
        data=data,
        recipe=settings,
        text_columns=text,
        label_column=label,
        metric=metric,
        labels=None if labels is None else split_labels(labels),
        seed=seed,
    )


def new_bench(workspace: str) -> Any:
    """A workspace, and the terminal that shows what is done in it."""
    silence()
    from nas.pipeline.stage import Workbench
    from nas.store.workspace import open_workspace

    display = Display()
    return Workbench(open_workspace(workspace, display.warn), display)
