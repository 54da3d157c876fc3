"""How layers are replaced: the settings of :mod:`supernet.distill.theseus`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supernet.errors import check_number


@dataclass(frozen=True)
class Replacement:
    """With which probability a module is the successor's: min(1, probability + growth * step).

    Args:
        probability: at the first step; the paper has 0.5 for constant replacement and 0.3 at the
            start of growing.
        growth: a step; 0 keeps it constant.

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
        return min(1.0, self.probability + self.growth * step)
