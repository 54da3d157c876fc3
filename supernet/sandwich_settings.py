"""SandwichSettings: what sub-networks learn from. No torch: recipes are read without it."""

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
        num_random: random sub-networks in a step, besides the largest and the smallest.
        soft_targets: whose predictions the other sub-networks imitate: the ``teacher``'s, those of
            the ``largest`` sub-network, or ``both``. The largest always imitates the teacher.
        temperature: softens predictions.
        soft_weight: weight of the imitation of predictions.
        hard_weight: weight of the loss on the labels.
        hidden_weight: weight of the imitation of the teacher's hidden states, in the units that a
            sub-network has, after layers at the same share of the depth.
        relation_weight: weight of the imitation of attention relations in the teacher's last layer
            (MiniLM v2). It is the only loss that needs no classification head.

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
