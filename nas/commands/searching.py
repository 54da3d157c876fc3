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
    LabelsOption,
    MetricOption,
    RecipeOption,
    SeedOption,
    SpaceOption,
    TeacherOption,
    TextOption,
    WorkspaceOption,
    new_bench,
    new_lesson,
    out,
)
from nas.search.registry import SEARCHERS
from supernet.errors import NasError


def _named(*, baselines: bool) -> str:
    """The searchers, or the baselines among them, as the help names them."""
    return ", ".join(
        f"`{name}`" for name, listed in SEARCHERS.items() if listed.is_baseline == baselines
    )


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
    labels: LabelsOption = None,
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
            help=f"Who proposes, in place of the recipe's: {_named(baselines=False)}; or a "
            f"baseline: {_named(baselines=True)} (docs/search.md)."
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
            help="Score and race on a Ray cluster: `auto` (the one this machine belongs to), "
            "`local`, `host:port` or `ray://host:10001`."
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
    cpu-128-tokens -o models` searches once and hands over four models.
    """
    from latency.options import load_target
    from latency.target import Budget
    from nas.cluster.options import RayOptions
    from supernet.configs import load_space

    budgets, targets = [*map(Budget.parse, latency)], [*map(load_target, target)]
    cluster = RayOptions(ray, ray_workers, ray_cpus, ray_gpus) if ray is not None else None
    if cluster is None and (ray_workers or ray_train_workers > 1 or ray_trials > 1):
        raise NasError("--ray-workers, --ray-train-workers and --ray-trials need --ray ADDRESS")
    folders = output_folders(output, latency, target)
    choices = None if space is None else load_space(space)
    lesson = new_lesson(teacher, data, recipe, text, label, metric, seed, algorithm, labels)
    bench = new_bench(workspace)
    from nas.models.outline import suiting_space
    from nas.pipeline.pipeline import run_search
    from nas.pipeline.request import Aim, Request, Resources
    from nas.report.page import quality, verdict

    memory = None if max_memory is None else round(max_memory * 1e6)
    aims = tuple(
        Aim(target=where, budget=budget, max_parameters=max_parameters, max_memory_bytes=memory)
        for where in targets
        for budget in budgets
    )
    request = Request(**vars(lesson), aims=aims, space=choices or suiting_space(teacher))
    resources = Resources(
        cluster=cluster, train_workers=ray_train_workers, trials=ray_trials, study_url=study
    )
    reports = run_search(request, folders, bench, resources)
    for report, folder in zip(reports, folders, strict=True):
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
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise NasError(f"two targets are named {twice!r}: their models would share a folder")
    return [
        output / (budget if len(target) == 1 else f"{name}-{budget}")
        for name in names
        for budget in latency
    ]


def front(
    result: Annotated[Path, typer.Argument(help="The output folder of `nas search`.")],
    latency: Annotated[
        list[str] | None,
        typer.Option(help="Answer this budget too: `3ms` or `6x`. Several times for several."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Another target, by its profile (`latency profile`): its front, and budgets on it."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the front, as PNG or SVG.")] = None,
    dimensions: Annotated[
        Path | None, typer.Option(help="Draw how sizes change along the front.")
    ] = None,
    hypervolume: Annotated[
        Path | None, typer.Option(help="Draw how the front grew over the evaluations.")
    ] = None,
) -> None:
    """Show the best architectures of a search at every latency, and answer further budgets.

    Scores are those that developed models are expected to have on validation data, by what was
    developed in this search. Nothing is scored anew.

    **Example:** `nas front fast-model --latency 3ms --latency 2ms --plot front.png`

    **On another device:** `nas front fast-model --profile phone.json --latency 20ms`
    """
    from latency.drawing import check_plot
    from nas.report.answers import Answers, budget_ms, on_target
    from nas.report.record import read_front
    from nas.search.designs import WORTHWHILE

    for picture in (plot, dimensions, hypervolume):
        if picture is not None:
            check_plot(picture)
    shown = read_front(result)
    if profile is not None:
        from latency.predictor import LatencyPredictor
        from latency.profile import Profile

        predictor = LatencyPredictor(Profile.load(profile)).fit()
        shown = on_target(shown, lambda many: predictor.predict(many, shown.percentile))
        out.print(f"on {predictor.profile.target}, by {profile}")
    table = Table("", "architecture", "predicted ms", f"expected {shown.metric}")
    for index, point in enumerate(shown.points):
        mark = "developed" if index == shown.chosen else ""
        table.add_row(
            mark, str(point.architecture), f"{point.latency_ms:.3g}", f"{point.score:.4f}"
        )
    out.print(table)
    spread = "" if shown.deviation is None else f" (give or take {shown.deviation:.4f})"
    limits = {text: budget_ms(shown, text) for text in latency or ()}
    ready = Answers(shown) if limits else None
    answers = {text: ready.within(ms) for text, ms in limits.items()} if ready else {}
    for text, found in answers.items():
        out.print(
            f"{text}: {found.architecture}, predicted {found.latency_ms:.3g} ms, "
            f"{shown.metric} {found.smoothed_score:.4f} expected{spread}"
        )
        if found.latency_ms < WORTHWHILE * limits[text]:
            out.print(
                f"  it leaves more than half of {text} unused; a search for {text} looks there"
            )
    if plot is not None:
        from nas.report.figures import front_figure
        from nas.report.plots import BudgetMark

        places = {point.architecture: place for place, point in enumerate(shown.points)}
        marks = [
            BudgetMark(text, ms, places.get(answers[text].architecture))
            for text, ms in limits.items()
        ]
        front_figure(shown, marks).savefig(plot, dpi=200)
        out.print(f"drawn in {plot}")
    if dimensions is not None:
        from nas.report.figures import dimensions_figure

        dimensions_figure(shown).savefig(dimensions, dpi=200)
        out.print(f"drawn in {dimensions}")
    if hypervolume is not None:
        from nas.report.figures import hypervolume_figure

        hypervolume_figure([("", shown)]).savefig(hypervolume, dpi=200)
        out.print(f"drawn in {hypervolume}")
