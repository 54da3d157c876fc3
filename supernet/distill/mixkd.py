"""MixKD (Liang et al., ICLR 2021): teacher and student read mixtures of two texts' embeddings.

Between two examples lie inputs that nobody labelled: the teacher can be asked about them, and the
labels of both count in proportion. Pairs and ratios are shared by teacher and student, embeddings
are not, so the student may be narrower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.distill.losses import hard_losses, mean_of_known, soft_loss
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


@dataclass(frozen=True)
class Mixture:
    """Which examples of a batch are mixed, and in which ratio.

    Args:
        partner: (batch,), for each example the other of its pair
        ratio: (batch,), the example's own share
    """

    partner: Tensor
    ratio: Tensor

    @classmethod
    def draw(cls, batch: int, alpha: float, rng: np.random.Generator) -> Mixture:
        """Random pairs, a ratio each."""
        ratio = rng.beta(alpha, alpha, batch).astype(np.float32)
        return cls(torch.from_numpy(rng.permutation(batch)), torch.from_numpy(ratio))

    def to(self, device: torch.device) -> Mixture:
        return Mixture(self.partner.to(device), self.ratio.to(device))

    def embeddings(self, words: Tensor) -> Tensor:
        """Mixed word embeddings, (batch, tokens, hidden_size), of those of a padded batch."""
        own = self.ratio[:, None, None].to(words.dtype)
        return own * words + (1 - own) * words[self.partner]

    def mask(self, mask: Tensor) -> Tensor:
        """(batch, tokens): a token is real where it is in either text."""
        return mask | mask[self.partner]


def mixed_hard_loss(logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
    """The losses with the labels of both texts, in the mixture's ratio; mean over pairs.

    A pair of which either text has no label does not count.

    Args:
        logits: of the mixtures, (batch, num_labels)
        labels: (batch,)
    """
    own = hard_losses(logits, labels)
    other = hard_losses(logits, labels[mixture.partner])
    return mean_of_known(mixture.ratio * own + (1 - mixture.ratio) * other)


def distance(student: Tensor, teacher: Tensor, settings: Mixup, temperature: float) -> Tensor:
    """Between predictions on the mixtures, (batch, num_labels) each."""
    if settings.distance == "mse":
        return F.mse_loss(student, teacher)
    return soft_loss(student, teacher, temperature)
