"""MixKD (Liang et al., ICLR 2021): teacher and student read mixtures of two texts' embeddings.

Between two examples lie inputs that nobody labelled: the teacher can be asked about them, and the
labels of both count in proportion. Pairs and ratios are shared by teacher and student, embeddings
are not, so the student may be narrower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.distill.losses import hard_losses, mean_of_known, soft_loss
from supernet.distill.mixup import Mixup


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
