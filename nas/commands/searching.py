"""``nas search`` and ``nas front``: from a budget to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nas.commands.options import (
    WORKSPACE,
    DataOption,
    LabelOption,
    MetricOption,
    RecipeOption,
    SeedOption,
    SpaceOption,
    TeacherOption,
    TextOption,
    WorkspaceOption,
    named_space,
    new_study,
    out,
)
from supernet.errors import NasError


def search(
    latency: Annotated[
        list[str],
        typer.Option(
            help="The budget: milliseconds (`5ms`), a speed-up over the teacher (`4x`), or either "
            "at the 95th percentile (`5ms@p95`). Given several times, one search serves all."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder that receives model and report; of several budgets or targets, a "
            "folder in it each.",
        ),
    ],
    teacher: TeacherOption = "minilm",
    data: DataOption = "pydoc",
    space: SpaceOption = None,
    target: Annotated[
        list[str],
        typer.Option(
            help="Where the model will serve: a name under configs/targets, or a YAML file. Given "
            "several times, every budget is met on each."
        ),
    ] = ["cpu"],  # noqa: B006 typer copies it
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
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="Who proposes, in place of the recipe's: `guided` (the best), `nsga2`, "
            "`optuna-tpe`, `optuna-gp`, `optuna-nsga2`, `optuna-nsga3`, `optuna-cmaes`, "
            "`exhaustive`, or a baseline (docs/search.md)."
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="Also record the search in an Optuna study: `sqlite:///searches.db` or "
            "`postgresql+psycopg2://...`. Scores that stand there are not computed again."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Score on a Ray cluster: `auto` (the one this machine belongs to), `local`, "
            "`host:port` or `ray://host:10001`."
        ),
    ] = None,
    ray_workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that score; by default all that fit.")
    ] = None,
    ray_cpus: Annotated[float, typer.Option(min=0, help="CPUs of each.")] = 1.0,
    ray_gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of each; `0.25` lets four share one.")
    ] = 0.0,
    ray_train_workers: Annotated[
        int, typer.Option(min=1, help="Processes that train the supernet together.")
    ] = 1,
    ray_trials: Annotated[
        int,
        typer.Option(min=1, help="Searches with so many seeds side by side, before the last one."),
    ] = 1,
    seed: SeedOption = 0,
) -> None:
    """Find, train and verify a model within a latency budget.

    **Example:** `nas search --latency 4x --data my-data/ -o fast-model`

    The output folder holds `model/` (load it with
    `AutoModelForSequenceClassification.from_pretrained`), `model.onnx`, `report.html` and
    `report.json`.

    **Several at once:** `nas search --latency 5ms --latency 2ms --target cpu --target
    cpu-128-tokens -o models` trains one supernet, searches once and hands over four models.
    """
    from latency.options import load_target
    from latency.target import Budget
    from nas.cluster.options import RayOptions

    budgets, targets = [*map(Budget.parse, latency)], [*map(load_target, target)]
    choices = named_space(space, teacher)
    cluster = RayOptions(ray, ray_workers, ray_cpus, ray_gpus) if ray is not None else None
    if cluster is None and (ray_workers or ray_train_workers > 1 or ray_trials > 1):
        raise NasError("--ray-workers, --ray-train-workers and --ray-trials need --ray ADDRESS")
    folders = output_folders(output, latency, target)
    lesson = new_study(teacher, data, recipe, workspace, text, label, metric, seed, algorithm)
    from nas.pipeline import run_pipeline
    from nas.report import quality, verdict
    from nas.request import Request, Run

    runs = [
        Run(
            Request(
                **vars(lesson.request),
                budget=budget,
                space=choices,
                target=where,
                max_parameters=max_parameters,
                max_memory_bytes=None if max_memory is None else round(max_memory * 1e6),
            ),
            lesson.workspace,
            lesson.display,
            cluster=cluster,
            train_workers=ray_train_workers,
            trials=ray_trials,
            study_url=study,
        )
        for where in targets
        for budget in budgets
    ]
    for report, folder in zip(run_pipeline(runs, folders), folders, strict=True):
        out.print(f"{verdict(report)}\n{quality(report)}\nSee {folder}/report.html")


def output_folders(output: Path, latency: list[str], target: list[str]) -> list[Path]:
    """Where each model goes, in the order of targets, then budgets.

    Raises:
        NasError: the same budget or target twice.
    """
    for name, given in (("latency", latency), ("target", target)):
        if twice := next((value for value in given if given.count(value) > 1), None):
            raise NasError(f"{name} {twice!r} is given twice")
    if len(latency) == len(target) == 1:
        return [output]
    names = [Path(one).stem for one in target]
    return [
        output / (budget if len(target) == 1 else f"{name}-{budget}")
        for name in names
        for budget in latency
    ]


def front(
    result: Annotated[Path, typer.Argument(help="The output folder of `nas search`.")],
    latency: Annotated[
        str | None, typer.Option(help="Mark the best within this budget: `3ms` or `6x`.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it, as PNG or SVG.")] = None,
) -> None:
    """Show the best architectures of a search at every latency.

    Scores are the sub-networks', with the weights that they share, on validation data: they rank
    architectures, whose own training comes after.

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
