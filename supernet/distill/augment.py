"""Data augmentation of TinyBERT (Jiao et al. 2020, algorithm 1): replaces words by similar ones.

Similar words come from a masked language model that reads the text without the word, or from the
teacher's word embeddings, in which similar words are near. Only whole words are replaced, and
everything between them stays as it is, so people can read an augmented text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from supernet.distill.augmentation import Augmentation

WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
"""A word. A contraction is one word, and is never replaced: no vocabulary has it as one piece."""
CONTINUATION = "##"
"""Marks a piece that continues a word (WordPiece)."""
BEGINNINGS = ("\u0120", "\u2581")
"""Mark a piece that begins a word (byte-level BPE, SentencePiece)."""

Propose = Callable[[str, Sequence[re.Match[str]]], list[list[str]]]
"""From a text and its words to the candidates for each word; none if the word stays."""


def copies_of(
    text: str, propose: Propose, settings: Augmentation, rng: np.random.Generator
) -> Iterator[str]:
    """Yield augmented copies of a text. Stop words are never replaced.

    Example:
        >>> settings = Augmentation(copies=2, probability=1.0)
        >>> propose = lambda text, words: [["dogs"] for _ in words]
        >>> list(copies_of("Cats, and 2 Cows", propose, settings, np.random.default_rng(0)))
        ['Dogs, and 2 Dogs', 'Dogs, and 2 Dogs']
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # a second that others save

    words = [word for word in WORD.finditer(text) if word[0].lower() not in ENGLISH_STOP_WORDS]
    proposed = propose(text, words)
    for _ in range(settings.copies):
        copy, end = [], 0
        for word, candidates in zip(words, proposed, strict=True):
            if candidates and rng.random() < settings.probability:
                other = candidates[rng.integers(len(candidates))]
                copy += [
                    text[end : word.start()],
                    other.capitalize() if _is_title(word[0]) else other,
                ]
                end = word.end()
        yield "".join([*copy, text[end:]])


class Neighbours:
    """Proposes the words with the nearest embeddings by cosine, for words of one piece.

    Args:
        embeddings: the teacher's word embeddings, (vocab_size, hidden)
        k: number of candidates for each word.
    """

    def __init__(self, embeddings: Tensor, tokenizer: PreTrainedTokenizerBase, k: int) -> None:
        self._tokenizer = tokenizer
        self._k = k
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(embeddings))))
        special = set(tokenizer.all_special_ids)
        marked = any(str(piece).startswith(CONTINUATION) for piece in pieces)
        begun = ["" if i in special else _begun(str(p), marked) for i, p in enumerate(pieces)]
        ids = [index for index, word in enumerate(begun) if word.isalpha()]
        self._words = [begun[index] for index in ids]
        self._row_of = {index: row for row, index in enumerate(ids)}
        normed = torch.nn.functional.normalize(embeddings.detach().float().cpu(), dim=-1)
        self._embeddings = normed[torch.tensor(ids, dtype=torch.long)]
        self._known: dict[str, list[str]] = {}

    def __call__(self, text: str, words: Sequence[re.Match[str]]) -> list[list[str]]:
        for word in words:
            if word[0] not in self._known:
                self._known[word[0]] = self._nearest(word[0])
        return [self._known[word[0]] for word in words]

    def _nearest(self, word: str) -> list[str]:
        # Vocabularies that mark beginnings know a word by the space before it.
        pieces = self._tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        row = self._row_of.get(pieces[0]) if len(pieces) == 1 else None
        if row is None:
            return []
        similarity = self._embeddings @ self._embeddings[row]
        similarity[row] = -1.0  # not itself
        nearest = similarity.topk(min(self._k, len(self._words) - 1)).indices
        return [self._words[index] for index in nearest.tolist()]


class MaskedModel:
    """Proposes the words that a masked language model predicts in a word's place.

    One mask cannot stand for a word of several pieces. The candidates of such words come from
    ``others``, where the paper takes GloVe.

    Args:
        model: a masked language model, in evaluation mode.
        k: number of candidates for each word.
        others: proposes candidates for words of several pieces.
        max_length: pieces of a text that the model reads.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        k: int,
        *,
        others: Propose,
        max_length: int,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._k = k
        self._others = others
        self._max_length = max_length
        pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = set(tokenizer.all_special_ids)
        marked = any(str(piece).startswith(CONTINUATION) for piece in pieces)
        self._begun = ["" if i in special else _begun(str(p), marked) for i, p in enumerate(pieces)]
        self._is_word = torch.tensor([word.isalpha() for word in self._begun])

    @torch.inference_mode()
    def __call__(self, text: str, words: Sequence[re.Match[str]]) -> list[list[str]]:
        encoded = self._tokenizer(
            text, truncation=True, max_length=self._max_length, return_tensors="pt"
        )
        ids = encoded["input_ids"][0]
        places = [self._place(encoded, word) for word in words]
        rows = [place for place in places if place is not None]
        masked = ids.repeat(len(rows), 1)
        masked[torch.arange(len(rows)), torch.tensor(rows, dtype=torch.long)] = (
            self._tokenizer.mask_token_id
        )
        proposed = self._others(text, words)
        if not rows:
            return proposed
        device = self._model.device
        logits = (
            self._model(
                input_ids=masked.to(device), attention_mask=torch.ones_like(masked).to(device)
            )
            .logits[torch.arange(len(rows)), rows, : len(self._is_word)]
            .float()
            .cpu()
        )
        logits[:, ~self._is_word] = -torch.inf
        logits[torch.arange(len(rows)), ids[rows]] = -torch.inf  # not itself
        likeliest = iter(logits.topk(self._k).indices.tolist())
        return [
            other if place is None else [self._begun[index] for index in next(likeliest)]
            for place, other in zip(places, proposed, strict=True)
        ]

    def _place(self, encoded: Any, word: re.Match[str]) -> int | None:
        """Position of a word's only piece; None for a word of several pieces, or one cut off."""
        first = encoded.char_to_token(word.start())
        last = encoded.char_to_token(word.end() - 1)
        return first if first is not None and first == last else None


def _is_title(word: str) -> bool:
    return word[0].isupper() and not word.isupper()


def _begun(piece: str, marks_continuations: bool) -> str:
    """The word that a piece begins; empty for a piece that continues a word.

    Args:
        marks_continuations: whether the vocabulary marks pieces that continue a word. Otherwise it
            marks those that begin one.
    """
    if marks_continuations:
        return "" if piece.startswith(CONTINUATION) else piece
    return piece[1:] if piece.startswith(BEGINNINGS) else ""
