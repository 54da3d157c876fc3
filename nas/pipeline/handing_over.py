"""What a user receives: the model, its ONNX form and the report, in one folder."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from nas.data.summary import summary_of
from nas.data.task_data import TaskData
from nas.models.outline import outline
from nas.pipeline.learning import EncodedTask, read_score, read_scores, told_of_lengths
from nas.pipeline.measuring import Trial, load_predictor
from nas.pipeline.race import Racer
from nas.pipeline.request import Lesson, Request
from nas.pipeline.searching import read_search, scores_of
from nas.report.record import Calibration, Candidate, Evaluated, Raced, Report
from nas.search.expected import Expectation, once_developed
from nas.search.front import Point
from nas.search.result import SearchResult
from nas.search.score_predictor import ScorePredictor
from nas.store.manifest import read_manifest
from nas.store.result_folder import MODEL, ONNX, replacing_folder
from nas.store.workspace import Artifact
from nas.tasks.chance import baseline, doubts, standing
from supernet.architecture import Architecture
from supernet.batch import ArchitectureBatch


@dataclass(frozen=True)
class Developed:
    """A model that met its budget, and how it was chosen.

    Args:
        final: its own file, timed.
        trials: what was timed on the device, the model's architecture last.
        racers: of the race that it won, the winner first; none without a race.
    """

    student: Artifact
    final: Trial
    trials: Sequence[Trial]
    racers: tuple[Racer, ...] = ()


def write_up(
    request: Request,
    goal: int,
    developed: Developed,
    task: EncodedTask,
    stages: Sequence[Artifact],
) -> Report:
    """The report of a model that met its budget.

    Args:
        goal: the number of the model's aim among the request's.
        stages: every artifact that went into the model.
    """
    aim, final, trials = request.aims[goal], developed.final, developed.trials
    last = {artifact.stage: artifact for artifact in stages}
    teacher, student, profile, found = (
        last[stage] for stage in ("teacher", "student", "profile", "search")
    )
    largest, shape = outline(teacher.path / MODEL)
    seconds: dict[str, float] = {}
    for artifact in stages:
        spent = 0.0 if artifact.reused else artifact.seconds
        seconds[artifact.stage] = seconds.get(artifact.stage, 0.0) + spent
    result = read_search(found.path, goal)
    expect = expectation(request, result, developed, task, teacher)
    predictor = load_predictor(profile.path)
    fingerprint = predictor.profile.fingerprint
    predicted_ms = predictor.predict([t.architecture for t in trials], target=aim.target)
    split = " + ".join(str(len(s)) for s in (task.train, task.validation, task.test))
    model, its_teacher = (
        standing(task.data.task, task.data.labels("test"), "test", read_scores(one.path, "test"))
        for one in (student, teacher)
    )
    return Report(
        budget_ms=final.limit_ms,
        budget_percentile=aim.budget.percentile,
        target=aim.target.to_dict(),
        architecture=final.architecture,
        predicted_p50_ms=float(predictor.predict([final.architecture], target=aim.target)[0]),
        measured_p50_ms=final.p50_ms,
        measured_p95_ms=final.p95_ms,
        teacher_p50_ms=final.teacher_p50_ms,
        teacher_p95_ms=final.teacher_p95_ms,
        metric=task.data.task.metric,
        score=read_score(student, task.data.task, "test"),
        teacher_score=read_score(teacher, task.data.task, "test"),
        split="test",
        baseline_score=baseline(task.data.task, task.data.labels("test")),
        above_baseline=model.above,
        teacher_above_baseline=its_teacher.above,
        warnings=doubts(model, its_teacher),
        parameters=final.architecture.parameters(shape),
        teacher_parameters=largest.parameters(shape),
        stages=seconds,
        seed=request.seed,
        versions=fingerprint.versions,
        data=f"{task.data.task.name}: {split} examples (train, validation, test)",
        data_summary=summary_of(task.data, told_of_lengths(task, request.recipe.max_length)),
        device=fingerprint.to_dict(),
        settings={
            "teacher": request.teacher,
            "data": request.data,
            "budget": str(aim.budget),
            "space": request.space.name,
            "recipe": request.recipe.to_dict(),
        },
        expected_deviation=expect.deviation,
        front=tuple(
            Point(point.architecture, point.latency_ms, float(expect(point.score)))
            for point in result.front
        ),
        evaluations=tuple(
            Evaluated(
                one.architecture,
                one.latency_ms,
                float(expect(one.score)),
                float(expect(one.smoothed_score)),
                one.architecture.parameters(shape) <= result.limits.max_parameters,
            )
            for one in result.evaluations
        ),
        race=tuple(Raced(racer.architecture, racer.scores) for racer in developed.racers),
        candidates=tuple(
            Candidate(trial.architecture, float(predicted), trial.p50_ms, trial.met)
            for trial, predicted in zip(trials, predicted_ms, strict=True)
        ),
        calibration=tuple(
            Calibration(float(predicted), float(ms))
            for predicted, ms in zip(*predictor.held_out(), strict=True)
        ),
        predictor_errors=predictor.errors().to_dict(),
    )


def expectation(
    request: Request,
    result: SearchResult,
    developed: Developed,
    task: EncodedTask,
    teacher: Artifact,
) -> Expectation:
    """What the search's scores let expect, by what was developed: the race, or the one model."""
    of_teacher = read_score(teacher, task.data.task, "validation")
    of_winner = read_score(developed.student, task.data.task, "validation")
    scores = [one.score for one in result.evaluations]
    predictor = ScorePredictor(request.seed).fit(
        ArchitectureBatch.of([one.architecture for one in result.evaluations]), np.array(scores)
    )
    architectures, after = [developed.final.architecture], [of_winner]
    if developed.racers and developed.racers[0].architecture == developed.final.architecture:
        trained = [racer for racer in developed.racers if len(racer.rungs) > 1]
        architectures = [racer.architecture for racer in trained]
        after = once_developed([racer.scores for racer in trained], of_winner, of_teacher)
    inherited = scores_of(request) == "inherited"
    return Expectation.of(
        predictor.expect(ArchitectureBatch.of(architectures)),
        after,
        teacher_before=of_teacher if inherited else 1.0,  # it agrees with itself
        teacher_after=of_teacher,
    )


def describe(
    lesson: Lesson, architecture: Architecture, student: Artifact, teacher: Artifact, data: TaskData
) -> dict[str, Any]:
    """What there is to say of a distilled student: ``distillation.json``."""
    found = [
        {split: read_score(one, data.task, split) for split in ("validation", "test")}
        for one in (student, teacher)
    ]
    model, its_teacher = (
        standing(data.task, data.labels("test"), "test", read_scores(one.path, "test"))
        for one in (student, teacher)
    )
    return {
        "architecture": architecture.to_dict(),
        "parameters": parameters_of(student.path / MODEL),
        "metric": data.task.metric,
        "score": found[0],
        "teacher_score": found[1],
        "baseline_score": {split: baseline(data.task, data.labels(split)) for split in found[0]},
        "warnings": list(doubts(model, its_teacher)),
        "seconds": student.seconds,
        "seed": lesson.seed,
        "recipe": lesson.recipe.to_dict(),
        "data": lesson.data,
        "teacher": lesson.teacher,
        "versions": read_manifest(student.path, student.key)["versions"],
    }


def parameters_of(folder: Path) -> int:
    """How many parameters a saved model has, read from the headers of its files."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - the file is no mapping
    return total


def hand_over(student: Artifact, output: Path, write_papers: Callable[[Path], None]) -> None:
    """Write the model and what goes with it beside ``output``, then put it in its place whole.

    Args:
        write_papers: writes reports into the folder it is given.

    Raises:
        NasError: the disk is full.
    """
    with replacing_folder(output) as fresh:
        shutil.copytree(student.path / MODEL, fresh / MODEL)
        shutil.copy2(student.path / ONNX, fresh / ONNX)
        write_papers(fresh)
