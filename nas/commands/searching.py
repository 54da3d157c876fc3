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
    TargetOption,
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

    budget, where, choices = Budget.parse(latency), load_target(target), named_space(space, teacher)
    study = new_study(teacher, data, recipe, workspace, text, label, metric, seed)
    from nas.pipeline import run_pipeline
    from nas.report import quality, verdict
    from nas.request import Request, Run

    request = Request(
        **vars(study.request),
        budget=budget,
        space=choices,
        target=where,
        max_parameters=max_parameters,
        max_memory_bytes=None if max_memory is None else round(max_memory * 1e6),
    )
    run = Run(request, study.workspace, study.display)
    report = run_pipeline(run, output)
    out.print(f"{verdict(report)}\n{quality(report)}\nSee {output}/report.html")


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
