"""Trains only those word embeddings whose words occur in the data.

A word table has 30,522 rows in BERT, of which a task's texts use a few thousand. The others get no
gradient. Yet clearing their gradients, measuring them and stepping takes a fifth of a small
student's training. So they are set aside while it trains. Weight decay does not shrink them then.
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

    row_of_word: Tensor
    table: Tensor

    def __init__(self, table: Tensor, used: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(table.detach()[used])
        row_of_word = torch.full(table.shape[:1], -1, device=table.device)
        row_of_word[used] = torch.arange(len(used), device=table.device)
        self.register_buffer("row_of_word", row_of_word, persistent=False)
        self.register_buffer("table", table.detach(), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embeddings of tokens, (..., hidden_size)."""
        rows = self.row_of_word[input_ids]
        trained = F.embedding(rows.clamp(min=0), self.weight)
        return torch.where(rows[..., None] < 0, F.embedding(input_ids, self.table), trained)


@contextmanager
def used_words(model: nn.Module, texts: Iterable[Sequence[int]]) -> Iterator[None]:
    """Within, ``model`` trains the embeddings of the words in ``texts``, and no others.

    Its other words are read as they are, for instance in texts of validation. The row of padding is
    not trained, as in :class:`torch.nn.Embedding`. Afterwards the whole table is back in its place.

    Args:
        model: its trained tables are those named ``word_embeddings``, of that class and no other.
            Its modules may call them, but not read their weight.
        texts: token ids of each.
    """
    ids = np.unique(np.concatenate([np.asarray(text, dtype=np.int64) for text in texts]))
    swapped: list[tuple[Any, nn.Embedding, Tensor]] = []
    for holder in list(model.modules()):
        table = getattr(holder, TABLE, None)
        if type(table) is nn.Embedding and table.weight.requires_grad:
            used = torch.as_tensor(ids[ids != table.padding_idx], device=table.weight.device)
            setattr(holder, TABLE, UsedWords(table.weight, used))
            swapped.append((holder, table, used))
    try:
        yield
    finally:
        for holder, table, used in swapped:
            with torch.no_grad():
                table.weight[used] = getattr(holder, TABLE).weight
            setattr(holder, TABLE, table)
