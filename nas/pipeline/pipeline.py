"""From a latency budget to a measured model: the stages, in order.

Each stage is a function from inputs to an artifact in the workspace, named by the hash of those
inputs, so a second budget, data set or device redoes only what depends on it, and a run that was
killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import Any

from latency.atomic import write_text
from latency.target import Target
from nas.data.task_data import TaskData
from nas.models.teacher import Outline
from nas.pipeline import choosing
from nas.pipeline.choosing import check_budgets, choose, read_trials, unmet
from nas.pipeline.compressing import Kronecker, check_forms, timed_forms
from nas.pipeline.distilling import check_for_search, describe, distilled, read_student, sub_network
from nas.pipeline.finalists import finalists
from nas.pipeline.guide import Guide
from nas.pipeline.handing_over import Developed, hand_over, write_up
from nas.pipeline.learning import EncodedTask, prepare_teacher, read_data, teacher_outline, tokenize
from nas.pipeline.measuring import Trial, check_target, profile_target, verify
from nas.pipeline.race import race
from nas.pipeline.request import Run, Study
from nas.pipeline.rung import Alone, Crew
from nas.pipeline.supernet import given_supernet, train_supernet
from nas.report.page import write as write_report
from nas.report.record import Report
from nas.store.result_folder import DISTILLATION, check_output
from nas.store.workspace import Artifact
from supernet.errors import NasError
from supernet.space import SearchSpace, trimmed

STAGES = ("data", "profiles", "teacher", "supernet", "search")
"""What comes before the models, in the order in which it is made."""


class Pipeline:
    """The stages of a search, each made from those before it when it is first asked for.

    Args:
        runs: what one search serves: they differ in budget and target alone.

    Raises:
        NasError: a target that no model can be handed over for. Stages raise it for whatever a
            user can mend, in one line.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        for one in runs:
            check_target(one.request.target)
        self.runs = runs
        self._run = runs[0]

    def finish(self, stage: str) -> None:
        """Make a stage of :data:`STAGES`, or find it made."""
        assert stage in STAGES
        getattr(self, stage)

    @cached_property
    def data(self) -> TaskData:
        """The task's data, split."""
        return read_data(self._run)

    @cached_property
    def original(self) -> Outline:
        """The teacher's outline, checked against the task."""
        return teacher_outline(self._run, self.data)

    @cached_property
    def space(self) -> SearchSpace:
        """What of the space the teacher can hold."""
        space = trimmed(self._run.request.space, self.original.architecture)
        check_for_search(self._run.request.recipe.distill, space, self.original.architecture)
        return space

    @cached_property
    def profiles(self) -> list[Artifact]:
        """Of each run's target; that its budget can be met is checked by them."""
        profiles = [profile_target(one, self.space, self.original) for one in self.runs]
        check_budgets(self.runs, self.space, self.original, profiles)
        return profiles

    @cached_property
    def teacher(self) -> Artifact:
        """Fine-tuned for the task where it is not yet."""
        return prepare_teacher(self._run, self.data)

    @cached_property
    def task(self) -> EncodedTask:
        """The data as the teacher and every student read it."""
        return tokenize(self._run, self.data, self.teacher)

    @cached_property
    def guide(self) -> Guide:
        """The teacher as sub-networks and students are held to it."""
        return Guide(self._run, self.teacher, self.task)

    @cached_property
    def supernet(self) -> Artifact:
        """Trained here, by several processes of a cluster, given, or left untrained."""
        return _supernet(self._run, self.space, self.teacher, self.task, self.guide)

    @cached_property
    def search(self) -> Artifact:
        """What was scored, for all runs."""
        shared = (self.supernet, self.profiles, self.original, self.task, self.guide)
        return choosing.search(self.runs, self.space, *shared)

    def develop(self, goal: int, output: Path) -> Report:
        """Train what was found for a run, until a model measures within its budget; hand it over.

        Args:
            goal: the run's place among those that the search serves.
        """
        stages = [self.profiles[goal], self.teacher, self.supernet, self.search]
        develop = self._choose if self._run.request.recipe.race is None else self._race
        developed = develop(goal, stages)
        run = self.runs[goal]
        report = write_up(run, developed, self.task, stages, goal)
        hand_over(developed.student, output, lambda folder: write_report(report, folder))
        for line in report.warnings:
            run.display.warn(line)
        return report

    def _choose(self, goal: int, stages: list[Artifact]) -> Developed:
        """Develop the best that measures within the budget; the next best, should it not after.

        Args:
            stages: to which those are added that this takes.
        """
        run, too_slow = self.runs[goal], list[Trial]()
        while True:
            choice = choose(run, self.search, goal, self.original, too_slow)
            trials = read_trials(choice)
            beginning = sub_network(trials[-1].architecture, self.supernet)
            student = distilled(run, beginning, self.teacher, self.task, self.guide)
            stages += [choice, student]
            final = verify(run, trials[-1], student, self.original)
            if final.met:
                return Developed(student, final, trials)
            run.display.warn(f"the developed {final}: taking the next architecture")
            too_slow.append(final)

    def _race(self, goal: int, stages: list[Artifact]) -> Developed:
        """Race those that measure within the budget, and develop the winner; the next, likewise.

        Args:
            stages: as for :meth:`_choose`.
        """
        run, settings = self.runs[goal], self._run.request.recipe.race
        assert settings is not None, "there is a race"
        profile = self.profiles[goal]
        choice = finalists(
            run, self.search, goal, self.space, profile, self.original, self.guide.worth
        )
        trials = {trial.architecture: trial for trial in read_trials(choice)}
        with self._crew() as crew:
            racers = race(run, settings, list(trials), self.teacher, self.task, self.guide, crew)
        stages += [choice, *(rung for racer in racers for rung in racer.rungs)]
        for racer in racers:
            beginning = racer.beginning()
            student = distilled(run, beginning, self.teacher, self.task, self.guide)
            stages.append(student)
            final = verify(run, trials[racer.architecture], student, self.original)
            if final.met:
                others = [t for a, t in trials.items() if a != racer.architecture]
                trials_in_order = [*others, trials[racer.architecture]]
                return Developed(student, final, trials_in_order, tuple(racers))
            run.display.warn(f"the developed {final}: taking the next of the race")
        raise NasError(unmet(run, list(trials.values())))

    @contextmanager
    def _crew(self) -> Iterator[Crew]:
        """Who has the racers of a race learn: this process, or a cluster's."""
        cluster = self._run.cluster
        if cluster is None:
            yield Alone(self._run, self.task, self.guide)
            return
        from nas.pipeline.cluster_race import RayCrew

        with RayCrew(self._run, self.teacher, self.task, self.guide, cluster) as crew:
            yield crew


def run_pipeline(runs: Sequence[Run], outputs: Sequence[Path]) -> list[Report]:
    """Do everything, and hand over for each run its model, its ONNX form and the report.

    Args:
        runs: what one search serves: they differ in budget and target alone.
        outputs: a folder for each.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    workspace = runs[0].workspace
    for output in outputs:
        check_output(output, workspace.root)
    pipeline = Pipeline(runs)
    with workspace.lock():
        for stage in STAGES:
            pipeline.finish(stage)
        return [pipeline.develop(goal, output) for goal, output in enumerate(outputs)]


def _supernet(
    run: Run, space: SearchSpace, teacher: Artifact, task: EncodedTask, guide: Guide
) -> Artifact:
    if run.supernet is not None:
        return given_supernet(run, run.supernet, space, teacher, task)
    if run.cluster is None or run.train_workers == 1:
        return train_supernet(run, space, teacher, task, guide)
    from nas.cluster.connection import connected
    from nas.cluster.training import train_distributed

    cluster = run.cluster
    train = partial(
        train_distributed, workers=run.train_workers, cpus=cluster.threads, gpus=ceil(cluster.gpus)
    )
    with connected(cluster.address):
        return train_supernet(run, space, teacher, task, guide, train, run.train_workers)


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
        student: an architecture or a model, as
            :func:`nas.pipeline.distilling.read_student` takes it.
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
        teacher_outline(study, data)
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
    for line in told["warnings"]:
        study.display.warn(line)
    return told
