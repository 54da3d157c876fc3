"""A race in training: the few that a search finds best learn for a while, and the best go on.

No score before training tells for sure what a model becomes: fits undervalue shallow, wide
students, which training brings up more. So the last choice is made by training itself, as DarwinLM
(Tang et al. 2025) makes it among offspring. Every rung is an artifact, so a race that was killed
goes on where it was, and its winner goes on from the weights that it has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nas.pipeline.beginning import Beginning
from nas.pipeline.guide import JUDGED, Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.recipe import Race
from nas.pipeline.request import Lesson
from nas.pipeline.rung import LEARNER, OUTCOME, Rung, RungRunner
from nas.pipeline.stage import Stage, Workbench
from nas.pipeline.student_training import EDITION
from nas.store.workspace import Artifact
from supernet.architecture import Architecture
from supernet.distill.stage import DistillStage
from supernet.model import Supernet

REACH = 2.5
"""A racer whose fit lacks more than so many times as much of the teacher's quality as the best fit
does has no chance. Of 24 architectures that were developed on TREC (``benchmarks/ranking.py``), the
best at each of three latencies had lacked 1.1 to 1.6 times as much.
"""


@dataclass(frozen=True)
class Racer:
    """An architecture in a race.

    Args:
        rungs: of what it has learnt, first to last; rung 0 is the fit.
        qualities: after each rung, half the metric on validation and half the agreement with the
            teacher, on more texts (:attr:`nas.pipeline.guide.Guide.judged`).
        scores: by the task's metric on validation, after each rung.
    """

    architecture: Architecture
    rungs: tuple[Artifact, ...] = ()
    qualities: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()

    @property
    def best(self) -> float:
        return max(self.qualities)

    @property
    def last_folder(self) -> Path | None:
        """Of the rung that it did last."""
        return self.rungs[-1].path if self.rungs else None

    def beginning(self) -> Beginning:
        """The student that goes on from here."""

        def load(_guide: Supernet, _task: Any) -> PreTrainedModel:
            raise AssertionError("a racer goes on from its learner's state")

        last = self.rungs[-1]
        return Beginning(self.architecture, last.key, load, learner=last.path / LEARNER)

    def to_dict(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture.to_dict(),
            "qualities": list(self.qualities),
            "scores": list(self.scores),
        }


def race(
    lesson: Lesson,
    settings: Race,
    finalists: Sequence[Architecture],
    teacher: Artifact,
    task: EncodedTask,
    guide: Guide,
    runner: RungRunner,
    bench: Workbench,
) -> list[Racer]:
    """Train finalists rung by rung, the better half of them each time; the winner comes first.

    All are fitted, and those whose fit is out of :data:`REACH` are not trained. Those that left a
    rung come after those that went on, each in the order of their quality.
    """
    first, *_ = lesson.recipe.distill.stages
    metric = task.data.task.metric

    def after_rung(racers: Sequence[Racer], stage: DistillStage | None) -> list[Racer]:
        """Racers after a rung that all of them do: the fit, or a stage of training."""
        rungs = [Rung(one.architecture, one.last_folder, stage) for one in racers]
        stages = [
            _racer_stage(lesson, racer, rung, teacher, task, runner)
            for racer, rung in zip(racers, rungs, strict=True)
        ]
        missing = [r for r, made in zip(rungs, stages, strict=True) if not bench.has(made)]
        runner.announce(missing)
        return [
            _after(racer, bench.make(stage)) for racer, stage in zip(racers, stages, strict=True)
        ]

    fitted = after_rung([Racer(architecture) for architecture in finalists], None)
    racing, out = within_reach(fitted, guide.validation_quality, len(task.validation))
    for number, steps in enumerate(settings.rungs, start=1):
        training = replace(first.training, epochs=None, steps=steps)
        racing = after_rung(racing, replace(first, name=f"rung-{number}", training=training))
        racing.sort(key=lambda racer: -racer.best)
        going_on = max(1, (len(racing) + 1) // 2)
        out = racing[going_on:] + out
        racing = racing[:going_on]
    ranked = racing + out
    for racer in ranked:
        told = ", ".join(f"{score:.4f}" for score in racer.scores)
        bench.display.say(f"race      {racer.architecture}: {metric} {told} (validation)")
    return ranked


def within_reach(
    racers: Sequence[Racer], teacher: float, examples: int
) -> tuple[list[Racer], list[Racer]]:
    """Those that may become the best by what they have, and the others; the best of each first.

    Args:
        teacher: its quality.
        examples: of validation, by whose number qualities err.
    """
    ranked = sorted(racers, key=lambda racer: -racer.best)
    lacking = max(teacher - ranked[0].best, examples**-0.5)
    near = [racer for racer in ranked if teacher - racer.best <= REACH * lacking]
    return near, ranked[len(near) :]


def _racer_stage(
    lesson: Lesson,
    racer: Racer,
    rung: Rung,
    teacher: Artifact,
    task: EncodedTask,
    runner: RungRunner,
) -> Stage:
    """Stage ``racer``: the learner of one racer after one rung, and how good it is."""
    recipe = lesson.recipe
    inputs = {
        "architecture": racer.architecture.to_dict(),
        "before": racer.rungs[-1].key if racer.rungs else None,
        "stage": None if rung.stage is None else asdict(rung.stage),
        "teacher": teacher.key,
        "data": task.data.digest,
        "metric": task.data.task.metric,
        "max_length": recipe.max_length,
        "importance_examples": recipe.importance_examples,
        "fit_examples": recipe.fit_examples,
        "checks": min(1, recipe.distill.checks),
        "judged": JUDGED,
        "seed": lesson.seed,
    }
    return Stage(
        name="racer",
        edition=EDITION,
        inputs=inputs,
        build=lambda folder, _: runner.run(rung, folder),
    )


def _after(racer: Racer, rung: Artifact) -> Racer:
    """A racer that has done one more rung."""
    outcome = json.loads((rung.path / OUTCOME).read_text())
    return Racer(
        racer.architecture,
        (*racer.rungs, rung),
        (*racer.qualities, outcome["quality"]),
        (*racer.scores, outcome["score"]),
    )
