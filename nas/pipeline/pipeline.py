"""From a latency budget to a measured model: the whole main path, in order.

Each stage makes an artifact in the workspace, named by the hash of what it is made from. So a
second budget, data set or device redoes only what depends on it, and a run that was killed goes on
where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from math import ceil
from pathlib import Path
from typing import Any

from latency.atomic import write_text
from latency.target import Target
from nas.data.task_data import Examples, TaskData
from nas.models.outline import Outline
from nas.pipeline.augment import augmented_stage, read_augmented
from nas.pipeline.beginning import Beginning, read_student, sub_network
from nas.pipeline.choosing import choice_stage, read_trials
from nas.pipeline.compressing import Kronecker, check_forms, timed_forms
from nas.pipeline.distilling import check_for_search, student_stage
from nas.pipeline.finalists import finalists_stage
from nas.pipeline.guide import Guide
from nas.pipeline.handing_over import Developed, describe, hand_over, write_up
from nas.pipeline.learning import (
    EncodedTask,
    check_teacher,
    doubt_of_teacher,
    read_data,
    teacher_outline,
    teacher_stage,
    tokenize,
    told_of_lengths,
)
from nas.pipeline.measuring import Timer, Trial, check_target, profile_stage, teacher_ms
from nas.pipeline.race import race
from nas.pipeline.recipe import Race
from nas.pipeline.request import Lesson, Request, Resources
from nas.pipeline.rung import LocalRungRunner, RungRunner
from nas.pipeline.searching import (
    SearchPlan,
    check_goals,
    goal_of,
    record_search,
    search_settings,
    search_stage,
)
from nas.pipeline.stage import Workbench
from nas.pipeline.student_training import StudentTraining
from nas.pipeline.supernet import given_supernet_stage, trained_supernet_stage
from nas.report.page import write as write_report
from nas.report.record import Report
from nas.search.goals import Goal
from nas.store.result_folder import DISTILLATION, MODEL, check_output
from nas.store.workspace import Artifact
from supernet.errors import NasError
from supernet.space import SearchSpace, trimmed


def run_search(
    request: Request, outputs: list[Path], bench: Workbench, resources: Resources = Resources()
) -> list[Report]:
    """Search, develop what was found, and hand over a model with its report for each aim.

    Args:
        outputs: a folder for each of the request's aims.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    for output in outputs:
        check_output(output, bench.workspace.root)
    pipeline = Pipeline(request, bench, resources)
    with bench.workspace.lock():
        for stage in STAGES:
            pipeline.finish(stage)
        return [pipeline.develop(goal, output) for goal, output in enumerate(outputs)]


class Groundwork:
    """What a search and a distillation begin with: the data, the teacher, and what it computes.

    Each is made when it is first asked for.
    """

    def __init__(self, lesson: Lesson, bench: Workbench) -> None:
        self.lesson = lesson
        self.bench = bench

    @cached_property
    def data(self) -> TaskData:
        """The task's data, split."""
        return read_data(self.lesson, self.bench.display)

    @cached_property
    def original(self) -> Outline:
        """The teacher's outline, checked against the task."""
        outline = teacher_outline(self.lesson, self.data)
        if not self.bench.has(teacher_stage(self.lesson, self.data)):
            check_teacher(self.lesson, self.data)
        return outline

    @cached_property
    def teacher(self) -> Artifact:
        """Fine-tuned for the task where it is not yet."""
        teacher = self.bench.make(teacher_stage(self.lesson, self.data))
        if (doubt := doubt_of_teacher(teacher, self.data)) is not None:
            self.bench.display.warn(doubt)
        return teacher

    @cached_property
    def task(self) -> EncodedTask:
        """The data as the teacher and every student read them."""
        length = self.lesson.recipe.max_length
        task = tokenize(self.data, self.teacher, length)
        for line in told_of_lengths(task, length):
            self.bench.display.say(f"texts     {line}")
        return task

    @cached_property
    def guide(self) -> Guide:
        """The teacher as sub-networks and students are held to it."""
        folder, lesson = self.teacher.path / MODEL, self.lesson
        return Guide(folder, self.task, lesson.recipe, lesson.seed, self.bench.display)

    def distilled(self, beginning: Beginning) -> Artifact:
        """A student that has learnt by the recipe."""
        stage = student_stage(
            self.lesson, beginning, self.teacher, self.task, self.guide, self._augmented
        )
        return self.bench.make(stage)

    def _augmented(self) -> Examples:
        """The training texts and their altered copies, made when a training needs them."""
        how, length = self.lesson.recipe.distill.augmentation, self.lesson.recipe.max_length
        copies = self.bench.make(
            augmented_stage(how, self.teacher, self.task, length, self.lesson.seed)
        )
        return read_augmented(copies, self.data.train, how.originals)


STAGES = ("data", "profiles", "teacher", "supernet", "search")
"""What comes before the models, in the order in which it is made."""


class Pipeline(Groundwork):
    """The stages of a search, each made from those before it when it is first asked for.

    Raises:
        NasError: a target that no model can be handed over for. Stages raise it for whatever a
            user can mend, in one line.
    """

    def __init__(
        self, request: Request, bench: Workbench, resources: Resources = Resources()
    ) -> None:
        super().__init__(request, bench)
        for aim in request.aims:
            check_target(aim.target)
        self.request = request
        self.resources = resources

    def finish(self, stage: str) -> None:
        """Make a stage of :data:`STAGES`, or find it made."""
        assert stage in STAGES
        getattr(self, stage)

    @cached_property
    def space(self) -> SearchSpace:
        """What of the space the teacher can hold."""
        space = trimmed(self.request.space, self.original.architecture)
        check_for_search(self.request.recipe.distill, space, self.original.architecture)
        return space

    @cached_property
    def profiles(self) -> list[Artifact]:
        """Of each aim's target; that its budget can be met is checked by them."""
        recipe, seed = self.request.recipe, self.request.seed
        profiles = [
            self.bench.make(profile_stage(aim, self.space, self.original, recipe, seed))
            for aim in self.request.aims
        ]
        goals = self._goals(profiles)
        check_goals(self.space, goals, search_settings(recipe, seed))
        for aim, goal, profile in zip(self.request.aims, goals, profiles, strict=True):
            if aim.budget.speedup is not None:
                theirs = teacher_ms(profile.path, aim.budget.percentile)
                self.bench.display.say(
                    f"budget    {aim.budget}: {goal.limits.latency_ms:.3g} ms, as the teacher "
                    f"takes {theirs:.3g} ms"
                )
        return profiles

    @cached_property
    def goals(self) -> tuple[Goal, ...]:
        """What a search keeps to for each aim."""
        return self._goals(self.profiles)

    def _goals(self, profiles: list[Artifact]) -> tuple[Goal, ...]:
        return tuple(
            goal_of(aim, self.request.recipe, profile, self.original)
            for aim, profile in zip(self.request.aims, profiles, strict=True)
        )

    @cached_property
    def supernet(self) -> Artifact:
        """Trained here, by several processes of a cluster, given, or left untrained."""
        shared = (self.request, self.space, self.teacher, self.task)
        cluster, workers = self.resources.cluster, self.resources.train_workers
        if self.request.supernet is not None:
            return self.bench.make(given_supernet_stage(self.request.supernet, *shared))
        if cluster is None or workers == 1:
            return self.bench.make(trained_supernet_stage(*shared, self.guide))
        from nas.cluster.connection import connected
        from nas.cluster.training import train_distributed

        train = partial(
            train_distributed, workers=workers, cpus=cluster.threads, gpus=ceil(cluster.gpus)
        )
        with connected(cluster.address):
            return self.bench.make(trained_supernet_stage(*shared, self.guide, train, workers))

    @cached_property
    def search(self) -> Artifact:
        """What was scored, for all aims."""
        plan = SearchPlan(
            self.request,
            self.space,
            self.goals,
            self.profiles,
            self.original,
            self.supernet,
            self.task,
        )
        found = self.bench.make(
            search_stage(plan, self.guide, self.resources, self.bench.workspace)
        )
        record_search(plan, self.resources, found, self.bench.display)
        return found

    def develop(self, goal: int, output: Path) -> Report:
        """Train what was found for an aim until a model measures within its budget; hand it over.

        Args:
            goal: the number of the aim.
        """
        stages = [self.profiles[goal], self.teacher, self.supernet, self.search]
        recipe = self.request.recipe
        timer = Timer(self.request.aims[goal], self.original, recipe.timing_rounds, recipe.headroom)
        if recipe.race is None:
            developed = self._best(goal, timer, stages)
        else:
            developed = self._winner(goal, timer, recipe.race, stages)
        report = write_up(self.request, goal, developed, self.task, stages)
        hand_over(developed.student, output, lambda folder: write_report(report, folder))
        for line in report.warnings:
            self.bench.display.warn(line)
        return report

    def _best(self, goal: int, timer: Timer, stages: list[Artifact]) -> Developed:
        """Develop the best that measures within the budget; the next best, should it not after.

        Args:
            stages: to which those are added that this takes.
        """
        most, too_slow = self.request.recipe.candidates, list[Trial]()
        while True:
            choice = self.bench.make(choice_stage(self.search, goal, timer, most, too_slow))
            trials = read_trials(choice.path)
            student = self.distilled(sub_network(trials[-1].architecture, self.supernet))
            stages += [choice, student]
            final = self._verified(timer, trials[-1], student)
            if final.met:
                return Developed(student, final, trials)
            self.bench.display.warn(f"the developed {final}: taking the next architecture")
            too_slow.append(final)

    def _winner(self, goal: int, timer: Timer, settings: Race, stages: list[Artifact]) -> Developed:
        """Race those that measure within the budget, and develop the winner; the next, likewise.

        Args:
            stages: as for :meth:`_best`.
        """
        recipe, seed = self.request.recipe, self.request.seed
        choice = self.bench.make(
            finalists_stage(
                self.search,
                goal,
                self.goals[goal],
                self.space,
                self.original,
                timer,
                settings,
                search_settings(recipe, seed),
                self.guide.worth,
            )
        )
        trials = {trial.architecture: trial for trial in read_trials(choice.path)}
        with self._runner() as runner:
            racers = race(
                self.request,
                settings,
                list(trials),
                self.teacher,
                self.task,
                self.guide,
                runner,
                self.bench,
            )
        stages += [choice, *(rung for racer in racers for rung in racer.rungs)]
        for racer in racers:
            student = self.distilled(racer.beginning())
            stages.append(student)
            final = self._verified(timer, trials[racer.architecture], student)
            if final.met:
                others = [t for a, t in trials.items() if a != racer.architecture]
                trials_in_order = [*others, trials[racer.architecture]]
                return Developed(student, final, trials_in_order, tuple(racers))
            self.bench.display.warn(f"the developed {final}: taking the next of the race")
        raise NasError(timer.unmet(list(trials.values())))

    def _verified(self, timer: Timer, chosen: Trial, student: Artifact) -> Trial:
        """The finished model's own file, timed."""
        with self.bench.display.bar("Verify on the device"):
            return timer.verify(chosen, student.path)

    @contextmanager
    def _runner(self) -> Iterator[RungRunner]:
        """Where the racers of a race learn: in this process, or on a cluster."""
        lesson, display, cluster = self.request, self.bench.display, self.resources.cluster
        if cluster is None:
            yield LocalRungRunner(
                StudentTraining(self.guide, self.task, lesson.recipe.distill, lesson.seed, display)
            )
            return
        from nas.pipeline.ray_race import RayRungRunner

        folder = self.teacher.path / MODEL
        with RayRungRunner(folder, self.task, self.guide, lesson, cluster, display) as runner:
            yield runner


def run_distillation(
    lesson: Lesson,
    student: str,
    output: Path,
    bench: Workbench,
    *,
    kronecker: Kronecker | None = None,
    target: Target | None = None,
) -> dict[str, Any]:
    """Distil one student by the recipe, without a search, and hand over ``output``.

    Args:
        student: an architecture or a model, as :func:`nas.pipeline.beginning.read_student` takes
            it.
        kronecker: compresses it before it learns.
        target: where the forms of a compressed student are timed; the faster is handed over.

    Returns:
        What ``distillation.json`` holds.

    Raises:
        NasError: whatever a user can mend, in one line.
    """
    check_output(output, bench.workspace.root)
    beginning = read_student(student, lesson.recipe.max_length)
    if kronecker is not None:
        whole = beginning.architecture.whole
        beginning = replace(beginning, architecture=whole, compression=kronecker)
    if target is not None:
        check_forms(target)
    ground = Groundwork(lesson, bench)
    with bench.workspace.lock():
        assert ground.original  # refuses a teacher that does not suit, before anything is trained
        found = ground.distilled(beginning)
        told = describe(lesson, beginning.architecture, found, ground.teacher, ground.data)

        def write_papers(folder: Path) -> None:
            if kronecker is not None and target is not None:
                forms = timed_forms(found, target, folder)
                told["target"] = target.to_dict()
                told["forms"] = [asdict(form) for form in forms]
            write_text(folder / DISTILLATION, json.dumps(told, indent=2))

        hand_over(found, output, write_papers)
    for line in told["warnings"]:
        bench.display.warn(line)
    return told
