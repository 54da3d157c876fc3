"""What a supernet's sub-networks learn from; free of torch, so that recipes are read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from supernet.errors import NasError, check_number
from supernet.training_settings import TrainingSettings

SoftTargets = Literal["teacher", "largest", "both"]


@dataclass(frozen=True)
class SandwichSettings:
    """What the sub-networks learn from.

    Args:
        training: duration and optimizer.
        num_random: random sub-networks a step, beside the largest and the smallest.
        soft_targets: whose predictions the smaller sub-networks imitate; the largest imitates the
            teacher's in any case.
        temperature: softens predictions.
        soft_weight: of the imitation of predictions.
        hard_weight: of the labels.
        hidden_weight: of the teacher's hidden states: those units that a sub-network has, after
            layers at the same share of the depth.
        relation_weight: of the teacher's last layer's attention relations (MiniLM v2), the one loss
            that needs no head.

    Raises:
        NasError: a value out of range, or nothing to learn from.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    training: TrainingSettings = TrainingSettings(epochs=4, learning_rate=3e-4)
    num_random: int = 2
    soft_targets: SoftTargets = "teacher"
    temperature: float = 2.0
    soft_weight: float = 1.0
    hard_weight: float = 0.3
    hidden_weight: float = 0.0
    relation_weight: float = 0.0

    def __post_init__(self) -> None:
        check_number("num_random", self.num_random, 0, whole=True)
        check_number("temperature", self.temperature, 1e-3)
        weights = ("soft_weight", "hard_weight", "hidden_weight", "relation_weight")
        for name in weights:
            check_number(name, getattr(self, name), 0)
        if not any(getattr(self, name) for name in weights):
            raise NasError(f"{', '.join(weights[:-1])} and {weights[-1]} are all 0")
