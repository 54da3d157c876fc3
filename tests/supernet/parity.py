"""A task that tiny models learn in moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

Row = dict[str, Any]


class Rows(Dataset[Row]):
    """The class of a text is the parity of its first token."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.rows = [rng.integers(5, 100, size=rng.integers(3, 9)).tolist() for _ in range(count)]
        self.lengths = [len(row) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return {"input_ids": self.rows[index], "labels": self.rows[index][0] % 2}


def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([r["input_ids"] + [0] * (longest - len(r["input_ids"])) for r in rows])
    return {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }
