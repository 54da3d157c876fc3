"""How texts are augmented: the settings of :mod:`supernet.distill.augment`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supernet.errors import check_number


@dataclass(frozen=True)
class Augmentation:
    """How many altered copies of a text there are, and how much they differ.

    Args:
        copies: of each text. The paper has 30 for small tasks, 20 for SST-2, 10 for large ones.
        originals: how often each text stands among its copies as it is, with its label.
        probability: with which a word is replaced.
        candidates: for each word, of which one is drawn.
        masked_model: a folder or hub id of a masked language model that proposes candidates; None
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
