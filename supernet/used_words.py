"""Trains only those word embeddings whose words occur in the data.

A word table has 30,522 rows in BERT, of which a task's texts use a few thousand. The others get no
gradient. Yet to clear their gradients, to measure them and to step takes a fifth of a small
student's training. So they are set aside while it trains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TABLE = "word_embeddings"


class UsedWords(nn.Module):
    """A word table of which some rows are trained and the others stay what they are.

    Args:
        table: the whole, (vocab_size, hidden_size).
        used: token ids of the rows that are trained, distinct, (used,).
    """

    numbers: Tensor
    others: Tensor

    def __init__(self, table: Tensor, used: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.detach()[used])
        numbers = torch.full(table.shape[:1], -1, device=table.device)
        numbers[used] = torch.arange(len(used), device=table.device)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("others", table.detach(), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embeddings of tokens, (..., hidden_size)."""
        numbers = self.numbers[input_ids]
        trained = F.embedding(numbers.clamp(min=0), self.weight)
        return torch.where(numbers[..., None] < 0, F.embedding(input_ids, self.others), trained)


@contextmanager
def used_words(model: nn.Module, texts: Iterable[Sequence[int]]) -> Iterator[None]:
    """Within, ``model`` trains the embeddings of the words in ``texts``, and no others.

    Its other words are read as they are, for instance in texts of validation. Afterwards the whole
    table is back in its place. The row of padding is not trained, as in :class:`torch.nn.Embedding`
    itself.

    Args:
        model: whatever holds stock embeddings that are trained, named ``word_embeddings``, must
            only call them.
        texts: token ids of each.
    """
    ids = np.unique(np.concatenate([np.asarray(text, dtype=np.int64) for text in texts]))
    holders: list[Any] = [
        one for one in model.modules() if type(getattr(one, TABLE, None)) is nn.Embedding
    ]
    tables = {
        one: getattr(one, TABLE) for one in holders if getattr(one, TABLE).weight.requires_grad
    }
    used = {
        one: torch.as_tensor(ids[ids != table.padding_idx], device=table.weight.device)
        for one, table in tables.items()
    }
    for one, table in tables.items():
        setattr(one, TABLE, UsedWords(table.weight, used[one]))
    try:
        yield
    finally:
        for one, table in tables.items():
            with torch.no_grad():
                table.weight[used[one]] = getattr(one, TABLE).weight
            setattr(one, TABLE, table)
