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
"""Marks a piece that continues a word (WordPiece)."""
BEGINNINGS = ("\u0120", "\u2581")
"""Mark a piece that begins a word (byte-level BPE, SentencePiece)."""


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
        wordpiece = any(str(piece).startswith(CONTINUATION) for piece in pieces)
        begun = ["" if i in special else _begun(str(p), wordpiece) for i, p in enumerate(pieces)]
        words = torch.tensor([word.isalpha() for word in begun])
        stop = torch.tensor([word.lower() in ENGLISH_STOP_WORDS for word in begun])
        continues = torch.tensor(
            [
                not word and i not in special and str(piece).removeprefix(CONTINUATION).isalnum()
                for i, (piece, word) in enumerate(zip(pieces, begun, strict=True))
            ]
        )
        occurring = torch.zeros(size, dtype=torch.bool)
        occurring[torch.tensor(sorted({token for ids in texts_ids for token in ids}))] = True
        replaceable = words & ~stop & occurring

        normed = torch.nn.functional.normalize(embeddings.detach().float().cpu(), dim=-1)
        candidates = words.nonzero().squeeze(-1)
        neighbours = torch.arange(size)[:, None].repeat(1, k)
        for rows in replaceable.nonzero().squeeze(-1).split(1024) if replaceable.any() else ():
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


def _begun(piece: str, wordpiece: bool) -> str:
    """The word that a piece begins; empty for one that continues a word.

    Args:
        wordpiece: whether the vocabulary marks continuations; else it marks beginnings.
    """
    if wordpiece:
        return "" if piece.startswith(CONTINUATION) else piece
    return piece[1:] if piece.startswith(BEGINNINGS) else ""
