"""The command line: ``nas search`` and its companions."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from supernet.errors import NasError

app = typer.Typer(
    name="nas",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="From a latency budget on your device to a BERT-like model that meets it, measured.",
)
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
        help="How much work to put in: a name under configs/recipes (`quick`: minutes, `full`: "
        "under an hour on two cores), or a YAML file."
    ),
]
DistillRecipeOption = Annotated[
    str,
    typer.Option(
        help="How it learns: a name under configs/recipes, or a YAML file; its `distill` counts, "
        "and what prepares data and teacher."
    ),
]
WorkspaceOption = Annotated[
    Path,
    typer.Option(
        help="Where finished stages are kept. With the same workspace a second budget costs "
        "seconds, and a run that was killed goes on where it was."
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
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all chance in the run.")]
StudentArgument = Annotated[
    str,
    typer.Argument(
        help="Who learns: a model folder, a result of `nas search`, or an architecture as JSON or "
        "in a JSON file, which then begins as the teacher's leading units."
    ),
]
StudentOutput = Annotated[
    Path, typer.Option("--output", "-o", help="The folder that receives the model.")
]
WORKSPACE = Path("tailorbert-workspace")
INSTALL = "pip install 'tailorbert[train,hub,defaults]'"


@app.command()
def search(
    latency: Annotated[
        str,
        typer.Option(
            help="The budget: milliseconds (`5ms`), a speed-up over the teacher (`4x`), or either "
            "at the 95th percentile (`5ms@p95`)."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder that receives model and report.")
    ],
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    space: SpaceOption = None,
    target: TargetOption = "cpu",
    recipe: RecipeOption = "full",
    workspace: WorkspaceOption = WORKSPACE,
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    max_parameters: Annotated[
        int | None, typer.Option(min=1, help="Cap on the model's parameters.")
    ] = None,
    max_memory: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e6, help="Cap on the model's float32 weights, in MB."),
    ] = None,
    seed: SeedOption = 0,
) -> None:
    """Find, train and verify a model within a latency budget.

    **Example:** `nas search --latency 4x --data my-data/ -o fast-model`

    The output folder holds `model/` (load it with
    `AutoModelForSequenceClassification.from_pretrained`), `model.onnx`, `report.html` and
    `report.json`.
    """
    from latency.options import load_target
    from latency.target import Budget
    from nas.recipe import load_recipe

    budget = Budget.parse(latency)
    settings, where = load_recipe(recipe), load_target(target)
    from nas.pipeline import run_pipeline
    from nas.progress import Display
    from nas.report import quality, verdict
    from nas.request import Request, Run
    from nas.workspace import Workspace

    _silence()
    display = Display()
    request = Request(
        teacher=teacher,
        data=data,
        budget=budget,
        space=_space(space, teacher),
        target=where,
        recipe=settings,
        text_columns=text,
        label_column=label,
        metric=metric,
        max_parameters=max_parameters,
        max_memory_bytes=None if max_memory is None else round(max_memory * 1e6),
        seed=seed,
    )
    run = Run(request, Workspace(workspace, warn=display.warn), display)
    report = run_pipeline(run, output)
    out.print(f"{verdict(report)}\n{quality(report)}\nSee {output}/report.html")


@app.command()
def finetune(
    output: Annotated[Path, typer.Option("--output", "-o", help="Receives the teacher.")],
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    recipe: RecipeOption = "full",
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    seed: SeedOption = 0,
) -> None:
    """Train a teacher's head, and all below it, on your data.

    `nas search` does this by itself for a teacher without a head. Use this command to replace a
    head that was trained for other labels, or to look at the teacher first.

    **Example:** `nas finetune --data my-data/ -o teacher && nas search --teacher teacher ...`
    """
    _silence()
    from nas.progress import Display
    from nas.recipe import load_recipe
    from nas.teacher import finetune_to_folder

    scores = finetune_to_folder(
        teacher,
        _read(data, text, label, metric, seed),
        load_recipe(recipe).finetune,
        output,
        max_length=load_recipe(recipe).max_length,
        seed=seed,
        display=Display(),
    )
    out.print(f"{output}: " + ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))


@app.command()
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
    seed: SeedOption = 0,
) -> None:
    """Distil a teacher into one student, without a search.

    Recipes of published methods: `finetune`, `kd`, `tinybert`, `mixkd`, `theseus`,
    `autotinybert`, `best`. Copy one to a YAML file to change its losses, data and durations.

    **Example:** `nas distill architecture.json --recipe tinybert --data my-data/ -o student`

    The output folder holds `model/`, `model.onnx` and `distillation.json`. Interrupted, the same
    command goes on from the last checkpoint.
    """
    study = _study(teacher, data, recipe, workspace, text, label, metric, seed)
    from nas.pipeline import run_distillation

    _tell(output, run_distillation(study, student, output))


@app.command()
def compress(
    student: StudentArgument,
    output: StudentOutput,
    ratio: Annotated[
        float, typer.Option(min=1.01, help="How many times fewer parameters it is to have.")
    ],
    terms: Annotated[
        int, typer.Option(min=1, help="Kronecker products that are summed for a matrix.")
    ] = 1,
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    target: TargetOption = "cpu",
    recipe: DistillRecipeOption = "kronecker",
    workspace: WorkspaceOption = WORKSPACE,
    text: TextOption = None,
    label: LabelOption = "label",
    metric: MetricOption = None,
    seed: SeedOption = 0,
) -> None:
    """Make a student smaller by Kronecker products, and distil it.

    Word embeddings and all large matrices become the nearest sums of Kronecker products; the
    recipe trains them. Smaller is not faster: both forms are timed on the target, the factored one
    and the one with its matrices formed, and `model.onnx` is the faster.

    **Example:** `nas compress my-model/ --ratio 5 --terms 2 --data my-data/ -o small`
    """
    from latency.options import load_target
    from nas.compress import Kronecker

    kronecker, where = Kronecker(ratio, terms), load_target(target)
    study = _study(teacher, data, recipe, workspace, text, label, metric, seed)
    from nas.pipeline import run_distillation

    told = run_distillation(study, student, output, kronecker=kronecker, target=where)
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


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="A model folder, or the output of a nas command.")],
    output: StudentOutput,
    form: Annotated[
        str,
        typer.Option(
            help="`dynamic`: activations' ranges as they come; `static`: fixed beforehand by "
            "training examples."
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
    """Write a model in 8 bits for ONNX Runtime, and say what that costs and brings.

    Float32 and both forms of int8 are scored and timed side by side; the one asked for is written.

    **Example:** `nas quantize fast-model --data my-data/ -o int8-model`
    """
    from latency.options import load_target
    from nas.measured import model_folder
    from nas.recipe import load_recipe

    folder, where = model_folder(model), load_target(target)
    _silence()
    from nas.quantize import quantize_folder

    task = _read(data, text, label, metric, seed)
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


@app.command()
def compare(
    models: Annotated[
        list[Path], typer.Argument(help="Model folders, or outputs of nas commands.")
    ],
    data: DataOption = "pydoc",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    target: TargetOption = "cpu",
    recipe: RecipeOption = "full",
    plot: Annotated[Path | None, typer.Option(help="Also draw it, as PNG or SVG.")] = None,
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
    from nas.recipe import load_recipe

    if plot is not None:
        check_plot(plot)
    _silence()
    from nas.compare import compare_folders, comparison_plot
    from nas.measured import model_folder

    where = load_target(target)
    length = load_recipe(recipe).max_length
    for model in models:
        model_folder(model)  # before the data, whose reading may take a while
    task = _read(data, text, label, metric, seed)
    found = compare_folders(models, task, split, where, max_length=length)
    table = Table("model", "architecture", "parameters", "MB", task.task.metric, "p50 ms", "p95 ms")
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
    out.print(f"{split} split of {task.task.name}; {where}")
    out.print(table)
    if plot is not None:
        comparison_plot(found, task.task.metric).savefig(plot, dpi=200)
        out.print(f"drawn in {plot}")


@app.command()
def front(
    result: Annotated[Path, typer.Argument(help="The output folder of `nas search`.")],
    latency: Annotated[
        str | None, typer.Option(help="Mark the best within this budget: `3ms` or `6x`.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, as PNG or SVG.")] = None,
) -> None:
    """Show the best architectures of a search at every latency.

    Scores are the sub-networks' with inherited weights, on validation data, before their own
    training.

    **Example:** `nas front fast-model --latency 3ms --plot front.png`
    """
    from latency.drawing import check_plot
    from latency.target import Budget
    from nas.plots import front_plot
    from nas.report import read_front

    if plot is not None:
        check_plot(plot)
    shown = read_front(result)
    budget_ms = shown.budget_ms
    if latency is not None:
        budget = Budget.parse(latency)
        if "@" in latency and budget.percentile != shown.percentile:
            raise NasError(
                f"budget {latency!r} is of p{budget.percentile}, this front of p{shown.percentile}"
            )
        budget_ms = budget.limit_ms(shown.teacher[0])
    within = [i for i, p in enumerate(shown.points) if p.latency_ms <= budget_ms]
    best = max(within, key=lambda i: shown.points[i].score, default=None)
    table = Table("", "architecture", "predicted ms", f"inherited {shown.metric}")
    for index, point in enumerate(shown.points):
        mark = "developed" if index == shown.chosen else "best" if index == best else ""
        table.add_row(
            mark, str(point.architecture), f"{point.latency_ms:.3g}", f"{point.score:.4f}"
        )
    out.print(table)
    if best is None:
        raise NasError(
            f"no architecture of this front is within {budget_ms:.3g} ms; the fastest is predicted "
            f"at {min(point.latency_ms for point in shown.points):.3g} ms"
        )
    if plot is not None:
        front_plot(
            [point.latency_ms for point in shown.points],
            [point.score for point in shown.points],
            metric=shown.metric,
            chosen=shown.chosen,
            budget_ms=budget_ms,
            percentile=shown.percentile,
            model=shown.model,
            teacher=shown.teacher,
        ).savefig(plot, dpi=200)
        out.print(f"drawn in {plot}")


@app.command()
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

    Give the recipe and the seed of the search for the same examples and token limit.

    **Example:** `nas evaluate fast-model --data my-data/`
    """
    _silence()
    from latency.options import load_target
    from nas.measured import evaluate_folder, model_folder
    from nas.recipe import load_recipe

    folder = model_folder(model)  # before the data, whose reading may take a while
    found = evaluate_folder(
        folder,
        _read(data, text, label, metric, seed),
        split,
        load_target(target),
        max_length=load_recipe(recipe).max_length,
    )
    table = Table("what", "value")
    for name, value in found.items():
        table.add_row(name, value)
    out.print(table)


def _space(name: str | None, teacher: str) -> Any:
    """The named space, or the one that suits the teacher's width."""
    from nas.teacher import outline
    from supernet.configs import load_space
    from supernet.space import trimmed

    if name is not None:
        return load_space(name)
    largest = outline(teacher).architecture
    if largest.hidden_size > 384:
        with suppress(NasError):  # its only number of heads is 12, which not all teachers have
            return trimmed(load_space("autotinybert-kd"), largest)
    return load_space("minilm")


def _read(data: str, text: list[str] | None, label: str, metric: str | None, seed: int) -> Any:
    from nas.data import load_data

    return load_data(data, text_columns=text, label_column=label, metric=metric, seed=seed)


def _study(
    teacher: str,
    data: str,
    recipe: str,
    workspace: Path,
    text: list[str] | None,
    label: str,
    metric: str | None,
    seed: int,
) -> Any:
    """What distillation needs, its recipe checked before anything heavy is imported."""
    from nas.recipe import load_recipe

    settings = load_recipe(recipe)
    _silence()
    from nas.progress import Display
    from nas.request import Lesson, Study
    from nas.workspace import Workspace

    display = Display()
    lesson = Lesson(
        teacher=teacher,
        data=data,
        recipe=settings,
        text_columns=text,
        label_column=label,
        metric=metric,
        seed=seed,
    )
    return Study(lesson, Workspace(workspace, warn=display.warn), display)


def _tell(output: Path, told: dict[str, Any]) -> None:
    out.print(
        f"{output}: {told['metric']} {told['score']['test']:.4f} on test, the teacher's "
        f"{told['teacher_score']['test']:.4f}; {told['parameters']:,} parameters"
    )


def _silence() -> None:
    """Libraries' own chatter and bars; ours say what a user needs."""
    import warnings

    warnings.filterwarnings("ignore", module="torch|transformers|accelerate|sklearn")
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()


def main() -> None:
    """Run the command line; a fault that the user can mend is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] in ("nas", "supernet", "latency"):
            raise  # our own fault, which no package mends
        print(f"nas: this command needs the package {error.name}: {INSTALL}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except NasError as error:
        print(f"nas: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
