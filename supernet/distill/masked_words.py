"""Masked language modelling, the training of BERT itself (Devlin et al. 2019).

It needs neither labels nor a teacher. The head that predicts words is tied to the student's word
embeddings, and is dropped after training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.activations import ACT2FN

from supernet.errors import NasError


@dataclass(frozen=True, eq=False)
class Masking:
    """Chooses tokens to hide and to predict.

    Args:
        mask_id: the token that stands for a hidden one.
        special: (vocab_size,), True for tokens that are never chosen.
        share: of the tokens to predict. 80% of these are hidden, 10% are replaced by a random
            token, and 10% stay.
    """

    mask_id: int
    special: Tensor
    share: float = 0.15

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Masking:
        """The masking for a tokenizer's vocabulary.

        Raises:
            NasError: the tokenizer has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise NasError("loss mlm: the teacher's tokenizer has no mask token")
        special = torch.zeros(vocab_size, dtype=torch.bool)
        special[torch.tensor(tokenizer.all_special_ids)] = True
        return cls(tokenizer.mask_token_id, special)

    def apply(self, input_ids: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Hide some tokens.

        Args:
            input_ids: (batch, tokens)

        Returns:
            The ids with some hidden, and a mask of the tokens to predict, both (batch, tokens).
        """
        ids = input_ids.cpu()
        chosen = torch.from_numpy(rng.random(tuple(ids.shape)) < self.share) & ~self.special[ids]
        fate = torch.from_numpy(rng.random(tuple(ids.shape)))
        others = torch.from_numpy(rng.integers(len(self.special), size=tuple(ids.shape)))
        hidden = torch.where(chosen & (fate < 0.8), self.mask_id, ids)
        hidden = torch.where(chosen & (fate >= 0.9), others, hidden)
        return hidden.to(input_ids.device), chosen.to(input_ids.device)


class WordHead(nn.Module):
    """BERT's head for masked words: a dense layer, then the transpose of the word embeddings."""

    def __init__(self, hidden_size: int, vocab_size: int, hidden_act: str, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.activation = ACT2FN[hidden_act]
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    @classmethod
    def of(cls, student: PreTrainedModel) -> WordHead:
        config = student.config
        return cls(config.hidden_size, config.vocab_size, config.hidden_act, config.layer_norm_eps)

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """Logits of every word.

        Args:
            states: (positions, hidden_size)
            embeddings: (vocab_size, hidden_size)

        Returns:
            (positions, vocab_size)
        """
        states = self.LayerNorm(self.activation(self.dense(states)))
        return states @ embeddings.T + self.bias
