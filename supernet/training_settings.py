"""TrainingSettings: duration and optimizer. No torch: recipes are read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from supernet.errors import NasError, check_number

Precision = Literal["auto", "float32"]
Schedule = Literal["linear", "constant_with_warmup", "cosine"]


@dataclass(frozen=True)
class TrainingSettings:
    """Duration of a training, and its optimizer.

    Args:
        learning_rate: peak learning rate of AdamW, after a linear warm-up.
        epochs: passes over the data. Give either epochs or steps.
        steps: batches, in as many passes as they take.
        batch_size: examples in a step; several processes share them.
        warmup: share of the steps that warm up.
        weight_decay: decoupled weight decay of AdamW.
        max_grad_norm: norm to which larger gradients are scaled down.
        schedule: learning rate after the warm-up: ``linear`` or ``cosine`` decay to 0, or
            ``constant_with_warmup``.
        precision: of matrix products. ``auto`` is bfloat16 if the processor is faster in it.

    Raises:
        NasError: a value out of range, or not one of ``epochs`` and ``steps``.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    learning_rate: float
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 32
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    schedule: Schedule = "linear"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise NasError(
                f"either epochs or steps must be given, not {self.epochs} and {self.steps}"
            )
        for name in ("epochs", "steps", "batch_size"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, whole=True)
        for name in ("learning_rate", "weight_decay", "max_grad_norm"):
            check_number(name, getattr(self, name), 0)
        check_number("warmup", self.warmup, 0, 1)
        for name, kind in (("schedule", Schedule), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                accepted = ", ".join(get_args(kind))
                raise NasError(f"{name} must be one of {accepted}, not {getattr(self, name)!r}")
