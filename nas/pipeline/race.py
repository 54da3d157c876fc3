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
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from nas.pipeline.distilling import EDITION, Beginning
from nas.pipeline.guide import JUDGED, Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.recipe import Race
from nas.pipeline.request import Study
from nas.pipeline.rung import LEARNER, OUTCOME, Crew, Rung
from nas.store.workspace import Artifact
from supernet.architecture import Architecture
from supernet.distill.stage import Stage
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
    run: Study,
    settings: Race,
    finalists: Sequence[Architecture],
    teacher: Artifact,
    task: EncodedTask,
    guide: Guide,
    crew: Crew,
) -> list[Racer]:
    """Train finalists rung by rung, the better half of them each time; the winner comes first.

    All are fitted, and those whose fit is out of :data:`REACH` are not trained. Those that left a
    rung come after those that went on, each in the order of their quality.
    """
    first, *_ = run.request.recipe.distill.stages
    lane = _Lane(run, teacher, task, crew)
    racing, out = within_reach(
        lane.climbed([Racer(architecture) for architecture in finalists], None),
        guide.validation_quality,
        len(task.validation),
    )
    for number, steps in enumerate(settings.rungs, start=1):
        training = replace(first.training, epochs=None, steps=steps)
        racing = lane.climbed(racing, replace(first, name=f"rung-{number}", training=training))
        racing.sort(key=lambda racer: -racer.best)
        going_on = max(1, (len(racing) + 1) // 2)
        out = racing[going_on:] + out
        racing = racing[:going_on]
    ranked = racing + out
    for racer in ranked:
        told = ", ".join(f"{score:.4f}" for score in racer.scores)
        metric = task.data.task.metric
        run.display.say(f"race      {racer.architecture}: {metric} {told} (validation)")
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


@dataclass(frozen=True)
class _Lane:
    """Where the rungs of a race become artifacts."""

    run: Study
    teacher: Artifact
    task: EncodedTask
    crew: Crew

    def climbed(self, racers: Sequence[Racer], stage: Stage | None) -> list[Racer]:
        """Racers after a rung that all of them do: the fit, or a stage of training."""
        workspace = self.run.workspace
        rungs = [
            Rung(one.architecture, one.rungs[-1].path if one.rungs else None, stage)
            for one in racers
        ]
        inputs = [self._inputs(racer, stage) for racer in racers]
        self.crew.announce(
            [
                rung
                for rung, given in zip(rungs, inputs, strict=True)
                if not workspace.has("racer", given)
            ]
        )
        return [
            _after(racer, workspace.artifact("racer", given, partial(self.crew.climb, rung)))
            for racer, rung, given in zip(racers, rungs, inputs, strict=True)
        ]

    def _inputs(self, racer: Racer, stage: Stage | None) -> dict[str, Any]:
        recipe = self.run.request.recipe
        return {
            "edition": EDITION,
            "architecture": racer.architecture.to_dict(),
            "before": racer.rungs[-1].key if racer.rungs else None,
            "stage": None if stage is None else asdict(stage),
            "teacher": self.teacher.key,
            "data": self.task.data.digest,
            "metric": self.task.data.task.metric,
            "max_length": recipe.max_length,
            "importance_examples": recipe.importance_examples,
            "fit_examples": recipe.fit_examples,
            "checks": recipe.distill.checks,
            "judged": JUDGED,
            "seed": self.run.request.seed,
        }


def _after(racer: Racer, rung: Artifact) -> Racer:
    """A racer that has done one more rung."""
    outcome = json.loads((rung.path / OUTCOME).read_text())
    return Racer(
        racer.architecture,
        (*racer.rungs, rung),
        (*racer.qualities, outcome["quality"]),
        (*racer.scores, outcome["score"]),
    )
