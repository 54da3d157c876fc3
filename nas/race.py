"""A race in training: the few that a search finds best learn for a while, and the best go on.

No score before training tells for sure what a model becomes: fits undervalue shallow, wide
students, which training brings up more. So the last choice is made by training itself, as DarwinLM
(Tang et al. 2025) makes it among offspring. Every rung is an artifact, so a race that was killed
goes on where it was, and its winner goes on from the weights that it has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

from nas.distill import EDITION, Beginning, learn, new_learner, validation_quality
from nas.evaluate import collator, score
from nas.guide import Guide
from nas.learning import EncodedTask
from nas.manifest import SCRATCH
from nas.recipe import Race
from nas.request import Study
from nas.workspace import Artifact
from supernet.architecture import Architecture
from supernet.distill.fitted_start import fit
from supernet.distill.trainer import Learner
from supernet.model import Supernet

LEARNER = "learner.safetensors"
OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Racer:
    """An architecture in a race.

    Args:
        rungs: of what it has learnt, first to last; rung 0 is the fit.
        qualities: on validation (:func:`nas.quality.quality`), after each rung.
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
) -> list[Racer]:
    """Train finalists rung by rung, the better half of them each time; the winner comes first.

    Those that left a rung come after those that went on, each in the order of their quality.
    """
    lane = _Lane(run, teacher, task, guide)
    racing = [lane.first(architecture) for architecture in finalists]
    out: list[Racer] = []
    for number, steps in enumerate(settings.rungs, start=1):
        racing = [lane.next(racer, steps, number) for racer in racing]
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


class _Lane:
    """Trains racers, one rung at a time."""

    def __init__(self, run: Study, teacher: Artifact, task: EncodedTask, guide: Guide) -> None:
        self._run, self._teacher, self._task, self._guide = run, teacher, task, guide

    def first(self, architecture: Architecture) -> Racer:
        """An architecture, fitted."""
        run, guide = self._run, self._guide

        def build(folder: Path) -> None:
            student = guide.supernet.blank(architecture)
            evidence = guide.evidence
            with run.display.stage(f"Fit {architecture}") as bar:
                fit(student, evidence, bar)
            learner = new_learner(run, student, guide.supernet.weights, self._task)
            self._write(folder, learner)

        return self._after(Racer(architecture), {}, build)

    def next(self, racer: Racer, steps: int, number: int) -> Racer:
        """A racer after its next rung."""
        run, guide, task = self._run, self._guide, self._task
        stage = run.request.recipe.distill.stages[0]
        training = replace(stage.training, epochs=None, steps=steps)
        rung = replace(stage, name=f"rung-{number}", training=training)

        def build(folder: Path) -> None:
            student = guide.supernet.blank(racer.architecture)
            before = racer.rungs[-1].path / LEARNER
            weights = guide.supernet.weights
            learner = new_learner(run, student, weights, task, before)
            watched = validation_quality(student, guide, task)
            learn(
                run, learner, weights, lambda _: task.train, task, folder / SCRATCH,
                guide.evidence_on, watched, stages=(rung,),
            )  # fmt: skip
            self._write(folder, learner)

        return self._after(racer, {"stage": asdict(rung)}, build)

    def _write(self, folder: Path, learner: Learner) -> None:
        student = learner.student.eval()
        told = {
            "quality": validation_quality(student, self._guide, self._task)(),
            "score": score(
                lambda batch: student(**batch).logits,
                self._task.validation,
                collator(self._task.tokenizer),
                student.device,
                self._task.data.task.metric,
            ),
        }
        save_file(learner.state_dict(), str(folder / LEARNER))
        (folder / OUTCOME).write_text(json.dumps(told))

    def _after(self, racer: Racer, inputs: Mapping[str, Any], build: Any) -> Racer:
        run, recipe = self._run, self._run.request.recipe
        all_inputs = {
            "edition": EDITION,
            "architecture": racer.architecture.to_dict(),
            "before": racer.rungs[-1].key if racer.rungs else None,
            "teacher": self._teacher.key,
            "data": self._task.data.digest,
            "metric": self._task.data.task.metric,
            "max_length": recipe.max_length,
            "importance_examples": recipe.importance_examples,
            "fit_examples": recipe.fit_examples,
            "checks": recipe.distill.checks,
            "seed": run.request.seed,
        } | dict(inputs)
        artifact = run.workspace.artifact("racer", all_inputs, build)
        outcome = json.loads((artifact.path / OUTCOME).read_text())
        return Racer(
            racer.architecture,
            (*racer.rungs, artifact),
            (*racer.qualities, outcome["quality"]),
            (*racer.scores, outcome["score"]),
        )
