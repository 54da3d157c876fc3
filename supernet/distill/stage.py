"""One stage of distillation: its losses, its data and its duration. No torch.

A recipe (``configs/recipes``) lists stages. Each published method is such a list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from supernet.errors import NasError, check_number
from supernet.training_settings import TrainingSettings

Data = Literal["task", "augmented", "unlabelled"]


@dataclass(frozen=True)
class Losses:
    """Weight of each loss; 0 by default.

    Args:
        hard: loss on the labels. Texts without a label do not count.
        soft: imitation of the teacher's predictions, softened by the stage's temperature.
        hidden: squared error of hidden states, embeddings included, after one learned projection
            to the teacher's width; mean over the compared states.
        attention: squared error of attention scores; mean over the compared layers.
        relation: imitation of attention relations in the last layer (MiniLM v2), for any number of
            heads.
        mlm: cross-entropy of masked words, through a head that is dropped after training.

    Raises:
        NasError: a negative weight.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    hard: float = 0.0
    soft: float = 0.0
    hidden: float = 0.0
    attention: float = 0.0
    relation: float = 0.0
    mlm: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(field.name, getattr(self, field.name), 0)

    @property
    def compared(self) -> bool:
        """Whether any loss compares the student with the teacher."""
        return bool(self.soft or self.hidden or self.attention or self.relation)


@dataclass(frozen=True)
class Mixup:
    """How texts are mixed, and the losses on mixtures (:mod:`supernet.distill.mixkd`).

    Args:
        alpha: ratios are drawn from Beta(alpha, alpha). Small values stay close to one text.
        student_weight: weight of the labels of both texts (alpha_SM in the paper).
        teacher_weight: weight of the teacher's predictions on the mixture (alpha_TMKD).
        distance: of predictions on the mixture: ``mse`` of logits, or ``kl`` of softened ones.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    alpha: float = 0.4
    student_weight: float = 1.0
    teacher_weight: float = 1.0
    distance: Literal["mse", "kl"] = "mse"

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 1e-3)
        for name in ("student_weight", "teacher_weight"):
            check_number(name, getattr(self, name), 0)
        if not (self.student_weight or self.teacher_weight):
            raise NasError("student_weight and teacher_weight are both 0")


@dataclass(frozen=True)
class Replacement:
    """Probability of replacing a module, min(1, probability + growth * step).

    See :mod:`supernet.distill.theseus`.

    Args:
        probability: at the first step. The paper takes 0.5 if constant, and 0.3 if growing.
        growth: added at each step; 0 keeps the probability constant.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    probability: float = 0.5
    growth: float = 0.0

    def __post_init__(self) -> None:
        check_number("probability", self.probability, 0, 1)
        check_number("growth", self.growth, 0)

    def at(self, step: int) -> float:
        """The probability at a step."""
        return min(1.0, self.probability + self.growth * step)


@dataclass(frozen=True)
class DistillStage:
    """One training of a student.

    Args:
        name: for progress lines and folders.
        training: duration and optimizer.
        losses: weights of the losses on unmixed texts.
        data: ``task``: the training examples; ``augmented``: the training examples and their
            augmented copies, which have no labels; ``unlabelled``: texts of the recipe's source.
        temperature: softens predictions.
        layers: layers whose hidden states and attention are compared: ``all`` of the student's,
            each with the teacher's at the same share of the depth, or the ``last``.
        mixup: adds losses on mixtures of two texts.
        replacement: runs some of the teacher's layers instead of the student's.
        trained: ``all`` parameters, or those of the ``layers`` only.
        reference_width: the hidden size that the learning rate is meant for. For another hidden
            size it is scaled by ``reference_width`` over that size, as for hidden matrices under
            Adam in muP (Yang et al. 2022). None does not scale it.

    Raises:
        NasError: nothing to learn from, or labels alone on texts that have none.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    training: TrainingSettings
    losses: Losses = Losses()
    data: Data = "task"
    temperature: float = 1.0
    layers: Literal["all", "last"] = "all"
    mixup: Mixup | None = None
    replacement: Replacement | None = None
    trained: Literal["all", "layers"] = "all"
    reference_width: int | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]+", self.name):
            raise NasError(
                f"stage name {self.name!r}: accepted are lower-case letters, digits and hyphens"
            )
        check_number("temperature", self.temperature, 1e-3)
        if self.reference_width is not None:
            check_number("reference_width", self.reference_width, 1, whole=True)
        without_labels = self.losses.compared or self.losses.mlm or self._mixed_with_teacher
        if not (without_labels or self.losses.hard or self.mixup):
            raise NasError(f"stage {self.name}: no loss has a weight, and there is no mixup")
        inner = self.losses.hidden or self.losses.attention or self.losses.relation
        if self.replacement is not None and inner:
            raise NasError(
                f"stage {self.name}: with a replacement, hard, soft and mlm are the only losses, "
                "for the layers that run are not the student's alone"
            )
        if self.data == "unlabelled" and not without_labels:
            raise NasError(f"stage {self.name}: unlabelled texts teach nothing by labels alone")

    @property
    def teaches_predictions(self) -> bool:
        """Whether a loss depends on the student's own predictions."""
        return bool(self.losses.hard or self.losses.soft or self.mixup) and not self.replacement

    @property
    def _mixed_with_teacher(self) -> bool:
        return self.mixup is not None and self.mixup.teacher_weight > 0

    def learning_rate(self, hidden_size: int) -> float:
        """The peak learning rate for a student of this hidden size."""
        scale = 1.0 if self.reference_width is None else self.reference_width / hidden_size
        return self.training.learning_rate * scale
