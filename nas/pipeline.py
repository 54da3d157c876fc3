"""From a latency budget to a measured model: the stages, in order.

Each stage is a function from inputs to an artifact in the workspace, named by the hash of those
inputs, so a second budget, data set or device redoes only what depends on it, and a run that was
killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

from latency.atomic import write_text
from latency.target import Target
from nas.choosing import check_budgets, choose, read_trials, search
from nas.compress import Kronecker, check_forms, timed_forms
from nas.device import Trial, check_target, profile_target, verify
from nas.distill import check_for_search, describe, distilled, read_student, sub_network
from nas.handover import DISTILLATION, check_output, hand_over, write_up
from nas.learning import EncodedTask, prepare_teacher, read_data, tokenize, train_supernet
from nas.report import Report
from nas.report import write as write_report
from nas.request import Run, Study
from nas.teacher import Outline, inspect_teacher
from nas.workspace import Artifact
from supernet.space import SearchSpace, trimmed


def run_pipeline(runs: Sequence[Run], outputs: Sequence[Path]) -> list[Report]:
    """Do everything, and hand over for each run its model, its ONNX form and the report.

    Args:
        runs: what one search serves: they differ in budget and target alone.
        outputs: a folder for each.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    run = runs[0]
    for one, output in zip(runs, outputs, strict=True):
        check_output(output, run.workspace.root)
        check_target(one.request.target)
    with run.workspace.lock():
        data = read_data(run)
        original = inspect_teacher(
            run.request.teacher, data.task, max_length=run.request.recipe.max_length
        )
        space = trimmed(run.request.space, original.architecture)
        check_for_search(run.request.recipe.distill, space, original.architecture)
        profiles = [profile_target(one, space, original.shape) for one in runs]
        check_budgets(runs, space, original, profiles)
        teacher = prepare_teacher(run, data)
        task = tokenize(run, data, teacher)
        supernet = _supernet(run, space, teacher, task)
        found = search(runs, space, supernet, profiles, original, task)
        shared = [teacher, supernet, found]
        return [
            _developed(one, goal, [profile, *shared], original, task, output)
            for goal, (one, profile, output) in enumerate(zip(runs, profiles, outputs, strict=True))
        ]


def _supernet(run: Run, space: SearchSpace, teacher: Artifact, task: EncodedTask) -> Artifact:
    """Trained here, or by several processes of a cluster."""
    if run.cluster is None or run.train_workers == 1:
        return train_supernet(run, space, teacher, task)
    from nas.cluster.connection import connected
    from nas.cluster.training import train_distributed

    cluster = run.cluster
    train = partial(
        train_distributed, workers=run.train_workers, cpus=cluster.threads, gpus=ceil(cluster.gpus)
    )
    with connected(cluster.address):
        return train_supernet(run, space, teacher, task, train, run.train_workers)


def _developed(
    run: Run,
    goal: int,
    stages: list[Artifact],
    original: Outline,
    task: EncodedTask,
    output: Path,
) -> Report:
    """Train what was found for one goal, until a model measures within the budget."""
    _, teacher, supernet, found = stages
    too_slow: list[Trial] = []
    while True:
        choice = choose(run, found, goal, original, too_slow)
        trials = read_trials(choice)
        beginning = sub_network(trials[-1].architecture, supernet)
        student = distilled(run, beginning, teacher, task)
        stages += [choice, student]
        final = verify(run, trials[-1], student, original)
        if final.met:
            break
        run.display.warn(f"the developed {final}: taking the next architecture")
        too_slow.append(final)
    report = write_up(run.request, final, trials, task, stages, goal)
    hand_over(student, output, lambda folder: write_report(report, folder))
    return report


def run_distillation(
    study: Study,
    student: str,
    output: Path,
    *,
    kronecker: Kronecker | None = None,
    target: Target | None = None,
) -> dict[str, Any]:
    """Distil one student by the recipe, without a search, and hand over ``output``.

    Args:
        student: an architecture or a model, as :func:`nas.distill.read_student` takes it.
        kronecker: compresses it before it learns.
        target: where the forms of a compressed student are timed; the faster is handed over.

    Returns:
        What ``distillation.json`` holds.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    check_output(output, study.workspace.root)
    beginning = read_student(student, study.request.recipe.max_length)
    if kronecker is not None:
        beginning = kronecker.applied(beginning)
    if target is not None:
        check_forms(target)
    with study.workspace.lock():
        data = read_data(study)
        inspect_teacher(
            study.request.teacher, data.task, max_length=study.request.recipe.max_length
        )
        teacher = prepare_teacher(study, data)
        task = tokenize(study, data, teacher)
        found = distilled(study, beginning, teacher, task)
        told = describe(study, beginning, found, teacher, task)

        def write_papers(folder: Path) -> None:
            if kronecker is not None and target is not None:
                forms = timed_forms(found, target, folder)
                told["target"] = target.to_dict()
                told["forms"] = [asdict(form) for form in forms]
            write_text(folder / DISTILLATION, json.dumps(told, indent=2))

        hand_over(found, output, write_papers)
    return told
