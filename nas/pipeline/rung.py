"""One rung of a race: what a racer is to do, and who does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors.torch import save_file

from nas.models.evaluate import collator, predict, quickly
from nas.models.quality import agreement
from nas.pipeline.distilling import learn, new_learner, validation_quality
from nas.pipeline.guide import Guide
from nas.pipeline.learning import EncodedTask
from nas.pipeline.request import Study
from nas.store.manifest import SCRATCH
from nas.tasks.metrics import compute
from supernet.architecture import Architecture
from supernet.distill.fitted_start import fit
from supernet.distill.stage import Stage

LEARNER = "learner.safetensors"
OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Rung:
    """What a racer is to do.

    Args:
        architecture: the racer's.
        before: the folder of the rung that it goes on from; None for its first, which is the fit.
        stage: what it learns in this one; None for the fit.
    """

    architecture: Architecture
    before: Path | None = None
    stage: Stage | None = None


class Crew(Protocol):
    """Who has racers climb: this process, or a cluster's."""

    def announce(self, rungs: Sequence[Rung]) -> None:
        """Tell which rungs are wanted next, so that they may be begun side by side."""

    def climb(self, rung: Rung, folder: Path) -> None:
        """Do a rung: its learner's state and its outcome are written to ``folder``.

        A folder in which a killed process has left something is gone on from.
        """


@dataclass(frozen=True)
class Alone:
    """This process, which does one rung after the other."""

    run: Study
    task: EncodedTask
    guide: Guide

    def announce(self, rungs: Sequence[Rung]) -> None:
        """See :class:`Crew`."""

    def climb(self, rung: Rung, folder: Path) -> None:
        """See :class:`Crew`."""
        run, task, guide = self.run, self.task, self.guide
        student, weights = guide.supernet.blank(rung.architecture), guide.supernet.weights
        if rung.stage is None:
            evidence = guide.evidence
            with run.display.stage(f"Fit {rung.architecture}") as bar:
                fit(student, evidence, bar)
        before = None if rung.before is None else rung.before / LEARNER
        learner = new_learner(run, student, weights, task, before)
        if rung.stage is not None:
            learn(
                run, learner, weights, lambda _: task.train, task, folder / SCRATCH,
                guide.readings_of, validation_quality(student, guide, task), (rung.stage,),
            )  # fmt: skip
        student.eval()
        with quickly(student.device):
            logits = predict(
                lambda batch: student(**batch).logits,
                guide.judged,
                collator(task.tokenizer),
                student.device,
            )
        metric, labels = task.data.task.metric, np.asarray(task.validation.labels)
        score = compute(metric, logits[: len(labels)], labels)
        quality = (score + agreement(metric, logits, guide.judged_logits)) / 2
        told = {"quality": quality, "score": score}
        save_file(learner.state_dict(), str(folder / LEARNER))
        (folder / OUTCOME).write_text(json.dumps(told))
