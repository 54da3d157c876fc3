"""A stage of further distillation: which losses, on which data, for how long.

Recipes list stages (``configs/recipes``); each published method is a list of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from supernet.distill.mixup import Mixup
from supernet.distill.replacement import Replacement
from supernet.errors import NasError, check_number
from supernet.training_settings import TrainingSettings

Data = Literal["task", "augmented", "unlabelled"]


@dataclass(frozen=True)
class Losses:
    """How much each loss counts; what is not named does not.

    Args:
        hard: of the labels; texts without one do not count.
        soft: of the teacher's predictions, softened by the stage's temperature.
        hidden: squared error of hidden states, embeddings included, through one learned projection
            to the teacher's width; mean over the compared states.
        attention: squared error of attention scores; mean over the compared layers.
        relation: of the last layer's attention relations (MiniLM v2), whatever the head counts.
        mlm: masked words' cross-entropy, through a head that is dropped afterwards.

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
        """Whether any compares with the teacher."""
        return bool(self.soft or self.hidden or self.attention or self.relation)


@dataclass(frozen=True)
class Stage:
    """One training of a student.

    Args:
        name: for progress lines and folders.
        training: duration and optimizer.
        losses: on the texts as they stand.
        data: ``task``: its training examples; ``augmented``: these and their augmented copies,
            which have no labels; ``unlabelled``: texts of the recipe's source.
        temperature: softens predictions.
        layers: whose hidden states and attention are compared: ``all`` of the student's, each with
            the teacher's at the same share of the depth, or the ``last``.
        mixup: losses on mixtures of two texts, besides.
        replacement: runs some of the teacher's layers in place of the student's.
        trained: ``all`` parameters, or the ``layers``' alone.
        reference_width: a hidden size for which the learning rate is meant; wider students take
            smaller steps and narrower ones larger, in proportion, as hidden matrices do under
            Adam in muP (Yang et al. 2022). None takes it as it is.

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
        """Whether the student's own predictions are what a loss is of."""
        return bool(self.losses.hard or self.losses.soft or self.mixup) and not self.replacement

    @property
    def _mixed_with_teacher(self) -> bool:
        return self.mixup is not None and self.mixup.teacher_weight > 0

    def learning_rate(self, hidden_size: int) -> float:
        """What a student of this width trains with at the peak."""
        scale = 1.0 if self.reference_width is None else self.reference_width / hidden_size
        return self.training.learning_rate * scale
