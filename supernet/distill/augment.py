"""Data augmentation by words that stand near in the teacher's own word embeddings.

TinyBERT (Jiao et al. 2020, algorithm 1) replaces words by GloVe neighbours or by what a masked
language model puts there. A teacher without such a head still knows which words are alike: its
word embeddings do, so the neighbours come from them, whole words only. Texts are augmented anew
each time they are seen, so nothing is stored and no two epochs are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch import Tensor
from transformers import PreTrainedTokenizerBase

CONTINUATION = "##"
"""Marks a word piece that continues a word (WordPiece)."""


class WordNeighbours:
    """For each word of the vocabulary, the nearest others.

    Args:
        neighbours: (vocab_size, k) token ids
        replaceable: (vocab_size,), whether a token is a word that may be replaced
        continues: (vocab_size,), whether a token continues the word before it
    """

    def __init__(self, neighbours: Tensor, replaceable: Tensor, continues: Tensor) -> None:
        self.neighbours = neighbours
        self.replaceable = replaceable
        self.continues = continues

    @classmethod
    def from_embeddings(
        cls,
        embeddings: Tensor,
        tokenizer: PreTrainedTokenizerBase,
        texts_ids: Sequence[Sequence[int]],
        k: int = 15,
    ) -> WordNeighbours:
        """The ``k`` nearest words by cosine, for the words that occur in ``texts_ids``.

        Args:
            embeddings: (vocab_size, hidden)
        """
        size = len(embeddings)
        pieces = tokenizer.convert_ids_to_tokens(list(range(size)))
        special = set(tokenizer.all_special_ids)
        words = torch.tensor(
            [i not in special and p is not None and p.isalpha() for i, p in enumerate(pieces)]
        )
        stop = torch.tensor([piece in ENGLISH_STOP_WORDS for piece in pieces])
        continues = torch.tensor([str(piece).startswith(CONTINUATION) for piece in pieces])
        occurring = torch.zeros(size, dtype=torch.bool)
        occurring[torch.tensor(sorted({token for ids in texts_ids for token in ids}))] = True
        replaceable = words & ~stop & occurring

        normed = torch.nn.functional.normalize(embeddings.detach().float().cpu(), dim=-1)
        candidates = words.nonzero().squeeze(-1)
        neighbours = torch.arange(size)[:, None].repeat(1, k)
        for rows in replaceable.nonzero().squeeze(-1).split(1024):
            similarity = normed[rows] @ normed[candidates].T
            similarity[rows[:, None] == candidates[None]] = -1.0  # not itself
            neighbours[rows] = candidates[similarity.topk(k, dim=-1).indices]
        return cls(neighbours, replaceable, continues)

    def replace(
        self, input_ids: Tensor, rows: Tensor, probability: float, rng: np.random.Generator
    ) -> Tensor:
        """Replace each whole word in the chosen ``rows`` with ``probability``.

        Args:
            input_ids: (batch, tokens)
            rows: (batch,), which texts are augmented
        """
        ids = input_ids.cpu()
        followed = torch.zeros_like(ids, dtype=torch.bool)
        followed[:, :-1] = self.continues[ids[:, 1:]]
        chosen = torch.from_numpy(rng.random(tuple(ids.shape)) < probability)
        chosen &= self.replaceable[ids] & ~followed & rows.cpu()[:, None]
        pick = torch.from_numpy(rng.integers(self.neighbours.shape[1], size=tuple(ids.shape)))
        replaced = self.neighbours[ids].gather(-1, pick[..., None]).squeeze(-1)
        return torch.where(chosen, replaced, ids).to(input_ids.device)
