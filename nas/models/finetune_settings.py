"""How a teacher is fine-tuned; free of torch, so that recipes are read without it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from supernet.errors import check_number


@dataclass(frozen=True)
class FinetuneSettings:
    """Fine-tuning until validation no longer improves.

    The learning rate stays where it is after a warm-up, so that no length need be guessed, until
    ``patience`` scores in a row have brought no gain. From the best weights it then decays to 0.

    Args:
        learning_rate: AdamW's.
        batch_size: examples a step.
        epochs: a bound on the first part, in passes over the data.
        minutes: a bound on each part by the clock; where it ends one, the teacher is not the same
            each time. None for no bound.
        warmup: share of an epoch that warms up.
        checks: scores on validation in an epoch of the first part; the second has one.
        patience: scores in a row without a gain.
        least_gain: what the score must rise by, in one look or in several, to count as a gain; 0.03
            are three points of accuracy.
        decay: length of the second part, as a share of the steps to the best weights; at least an
            epoch.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    learning_rate: float = 1e-4
    batch_size: int = 32
    epochs: int = 20
    minutes: float | None = None
    warmup: float = 0.3
    checks: int = 2
    patience: int = 4
    least_gain: float = 0.0
    decay: float = 0.3

    @property
    def identity(self) -> dict[str, Any]:
        """What tells teachers that were fine-tuned in other ways apart.

        ``least_gain`` came later, and is left out where it is 0: earlier teachers are found again.
        """
        told = asdict(self)
        if not self.least_gain:
            del told["least_gain"]
        return told

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "checks", "patience"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("learning_rate", self.learning_rate, 0)
        check_number("warmup", self.warmup, 0, 1)
        check_number("decay", self.decay, 0)
        check_number("least_gain", self.least_gain, 0, 1)
        if self.minutes is not None:
            check_number("minutes", self.minutes, 1e-3)
