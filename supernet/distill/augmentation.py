"""Augmentation: the settings of :mod:`supernet.distill.augment`. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supernet.errors import check_number


@dataclass(frozen=True)
class Augmentation:
    """Number of augmented copies of a text, and how much they differ from it.

    Args:
        copies: of each text. The paper makes 30 for small tasks, 20 for SST-2, 10 for large ones.
        originals: how often each unchanged text, with its label, is put among its copies.
        probability: of replacing a word.
        candidates: similar words proposed for each word; one of them is drawn.
        masked_model: folder or hub id of a masked language model that proposes candidates. None
            takes neighbours in the teacher's word embeddings.

    Raises:
        NasError: a value out of range.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    copies: int = 10
    originals: int = 1
    probability: float = 0.4
    candidates: int = 15
    masked_model: str | None = None

    def __post_init__(self) -> None:
        for name in ("copies", "originals", "candidates"):
            check_number(name, getattr(self, name), 1, whole=True)
        check_number("probability", self.probability, 0, 1)
