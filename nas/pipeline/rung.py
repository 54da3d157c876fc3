"""One rung of a race: what a racer learns in it, and where."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from nas.models.evaluate import collator, predict, quickly
from nas.models.quality import agreement, quality
from nas.pipeline.student_training import StudentTraining
from nas.store.manifest import SCRATCH
from nas.tasks.metrics import compute
from supernet.architecture import Architecture
from supernet.distill.fitted_start import fit
from supernet.distill.stage import DistillStage

LEARNER = "learner.safetensors"
"""File of a learner's state after a rung, with the student's :data:`VALIDATION_QUALITY`."""

VALIDATION_QUALITY = "validation_quality"
"""Name in the file's metadata of what :meth:`StudentTraining.validation_quality` finds."""

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Rung:
    """What a racer learns next.

    Args:
        architecture: the racer's.
        before: the folder of the rung that it goes on from; None for its first, which is the fit.
        stage: what it learns in this one; None for the fit.
    """

    architecture: Architecture
    before: Path | None = None
    stage: DistillStage | None = None


class RungRunner(Protocol):
    """Where rungs are run: in this process, or on a cluster."""

    def announce(self, rungs: Sequence[Rung]) -> None:
        """Tell which rungs are wanted next, so that they may be begun side by side."""

    def run(self, rung: Rung, folder: Path) -> None:
        """Run a rung: the learner's state and its outcome are written to ``folder``.

        A folder in which a killed process has left something is gone on from.
        """


@dataclass(frozen=True)
class LocalRungRunner:
    """Runs one rung after the other in this process."""

    training: StudentTraining

    def announce(self, rungs: Sequence[Rung]) -> None:
        """See :class:`RungRunner`."""

    def run(self, rung: Rung, folder: Path) -> None:
        """See :class:`RungRunner`."""
        training, guide, task = self.training, self.training.guide, self.training.task
        student = guide.supernet.blank(rung.architecture)
        if rung.stage is None:
            evidence = guide.evidence
            with training.display.bar(f"Fit {rung.architecture}") as bar:
                fit(student, evidence, bar)
        before = None if rung.before is None else rung.before / LEARNER
        learner = training.learner(student, begun=before)
        if rung.stage is not None:
            first = None if before is None else validation_quality_of(before)
            training.run(
                learner, (rung.stage,), lambda _: task.train, folder / SCRATCH,
                first=first, checks=min(1, training.recipe.checks),
            )  # fmt: skip
        student.eval()
        metric, labels = task.data.task.metric, np.asarray(task.validation.labels)
        others = guide.judged.take(range(len(labels), len(guide.judged)))
        collate = collator(task.tokenizer)
        with quickly(student.device):
            own, *rest = (
                predict(lambda batch: student(**batch).logits, texts, collate, student.device)
                for texts in (task.validation, others)
                if len(texts)
            )
        score = compute(metric, own, labels)
        agreed = agreement(metric, np.concatenate([own, *rest]), guide.judged_logits)
        on_validation = quality(metric, own, guide.validation_logits, labels)
        save_file(
            learner.state_dict(), str(folder / LEARNER),
            metadata={VALIDATION_QUALITY: repr(on_validation)},
        )  # fmt: skip
        told = {"quality": (score + agreed) / 2, "score": score}
        (folder / OUTCOME).write_text(json.dumps(told))


def validation_quality_of(learner: Path) -> float:
    """The student's quality on validation, which stands in the file of its learner's state."""
    with safe_open(learner, "pt") as file:
        return float(file.metadata()[VALIDATION_QUALITY])
