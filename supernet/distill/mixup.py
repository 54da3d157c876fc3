"""How texts are mixed: the settings of :mod:`supernet.distill.mixkd`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from supernet.errors import NasError, check_number


@dataclass(frozen=True)
class Mixup:
    """How texts are mixed and what the mixtures teach.

    Args:
        alpha: ratios are drawn from Beta(alpha, alpha); small values keep close to one text.
        student_weight: of the labels of both texts (the paper's alpha_SM).
        teacher_weight: of the teacher's predictions on the mixture (alpha_TMKD).
        distance: between predictions on the mixture: ``mse`` of logits, or ``kl`` of softened ones.

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
