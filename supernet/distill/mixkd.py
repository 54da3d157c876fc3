"""MixKD (Liang et al., ICLR 2021): teacher and student read mixtures of two texts' embeddings.

A mixture has no label of its own. The student learns from the teacher's predictions on it, and from
the labels of both texts in proportion. Teacher and student use the same pairs and ratios but each
its own embeddings, so the student may be narrower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.distill.losses import hard_losses, mean_of_known, soft_loss
from supernet.distill.stage import Mixup


@dataclass(frozen=True)
class Mixture:
    """Pairs of examples in a batch, and the ratio of each mixture.

    Args:
        partner: for each example, the index of the other text in its mixture, (batch,)
        ratio: share of the example itself, (batch,)
    """

    partner: Tensor
    ratio: Tensor

    @classmethod
    def draw(cls, batch: int, alpha: float, rng: np.random.Generator) -> Mixture:
        """Random pairs with a random ratio each."""
        ratio = rng.beta(alpha, alpha, batch).astype(np.float32)
        return cls(torch.from_numpy(rng.permutation(batch)), torch.from_numpy(ratio))

    def to(self, device: torch.device) -> Mixture:
        return Mixture(self.partner.to(device), self.ratio.to(device))

    def embeddings(self, words: Tensor) -> Tensor:
        """Mix the word embeddings of a padded batch, (batch, tokens, hidden_size)."""
        own = self.ratio[:, None, None].to(words.dtype)
        return own * words + (1 - own) * words[self.partner]

    def mask(self, mask: Tensor) -> Tensor:
        """Mask of the mixtures, (batch, tokens): a token is real if it is real in either text."""
        return mask | mask[self.partner]


def mixed_hard_loss(logits: Tensor, labels: Tensor, mixture: Mixture) -> Tensor:
    """The losses with the labels of both texts, weighted by the ratio; mean over pairs.

    A pair does not count if either text has no label.

    Args:
        logits: of the mixtures, (batch, num_labels)
        labels: (batch,)
    """
    own = hard_losses(logits, labels)
    other = hard_losses(logits, labels[mixture.partner])
    return mean_of_known(mixture.ratio * own + (1 - mixture.ratio) * other)


def distance(student: Tensor, teacher: Tensor, settings: Mixup, temperature: float) -> Tensor:
    """Distance of predictions on the mixtures, (batch, num_labels) each."""
    if settings.distance == "mse":
        return F.mse_loss(student, teacher)
    return soft_loss(student, teacher, temperature)
