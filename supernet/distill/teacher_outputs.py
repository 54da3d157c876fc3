"""What a teacher computes, kept where texts are read more than once.

A student nine times faster than its teacher learns a text in a third of the time that the teacher
needs to read it. So where a training passes over its texts several times, and what is compared fits
in memory, the teacher reads them once, before it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from supernet.distill.evidence import Evidence
from supernet.observe import Observation, observe
from supernet.student import shape_of
from supernet.training import Progress

MEMORY_LIMIT = 2 * 2**30
"""Bytes that may be kept."""

ROWS = "rows"
"""In a batch: the numbers of its examples in the data."""

_BATCH = 64


@dataclass(frozen=True)
class Compared:
    """Of what a model computes, the part that is compared.

    Args:
        states: numbers of hidden states, 0 being the embeddings.
        attentions: numbers of layers, from 0.
    """

    states: tuple[int, ...] = ()
    attentions: tuple[int, ...] = ()

    def of(self, observed: Observation) -> Observation:
        return Observation(
            observed.logits,
            tuple(observed.hidden_states[number] for number in self.states),
            tuple(observed.attentions[number] for number in self.attentions),
        )


class TeacherOutputs:
    """A teacher's outputs on every example of some data.

    Hidden states and attention are kept in half precision.

    Args:
        teacher: frozen, in evaluation mode.
        data, collate: as in :class:`supernet.training.ResumableTrainer`.
        compared: what is kept besides the logits.
    """

    def __init__(
        self,
        teacher: PreTrainedModel,
        data: Dataset[Any],
        collate: Callable[[list[Any]], dict[str, Tensor]],
        compared: Compared,
        progress: Progress,
    ) -> None:
        lengths = np.asarray(data.lengths)  # type: ignore[attr-defined]
        self._lengths = torch.from_numpy(lengths)
        self._starts = torch.from_numpy(np.cumsum(lengths) - lengths)
        self._heads = teacher.config.num_attention_heads
        width = teacher.config.hidden_size
        total = int(lengths.sum())

        def table() -> Tensor:
            return torch.empty(total, width, dtype=torch.float16)

        self._logits = torch.empty(len(lengths), shape_of(teacher.config).num_labels)
        self._states = [table() for _ in compared.states]
        self._attentions = [(table(), table(), table()) for _ in compared.attentions]
        order = np.argsort(lengths, kind="stable")  # like lengths together: little padding
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            inputs = collate([data[int(row)] for row in rows])
            inputs.pop("labels", None)
            with torch.no_grad():
                observed = observe(teacher, {k: v.to(teacher.device) for k, v in inputs.items()})
            self._keep(torch.from_numpy(rows), compared.of(observed))
            progress(min(start + _BATCH, len(order)), len(order))

    @classmethod
    def of_evidence(cls, evidence: Evidence, states: Sequence[int]) -> TeacherOutputs:
        """What a teacher is known to compute, without reading anything again.

        Args:
            evidence: on every example of some data, packed from them in their order.
            states: numbers of the hidden states that are kept.
        """
        outputs = cls.__new__(cls)
        order = evidence.texts.order.cpu()
        outputs._lengths, outputs._starts = torch.empty_like(order), torch.empty_like(order)
        outputs._lengths[order] = evidence.texts.lengths.cpu()
        outputs._starts[order] = evidence.texts.starts.cpu()
        outputs._heads = evidence.teacher.config.num_attention_heads
        outputs._logits = torch.empty_like(evidence.logits, device="cpu")
        outputs._logits[order] = evidence.logits.cpu()
        outputs._states = [evidence.state(number).half().cpu() for number in states]
        outputs._attentions = []
        return outputs

    def __call__(self, rows: Tensor, tokens: int, device: torch.device) -> Observation:
        """What was compared, on the examples at ``rows``, padded to ``tokens``.

        Where an example is shorter, states hold something, which masks leave out.
        """
        places = self._places(rows.cpu(), tokens)

        def padded(table: Tensor) -> Tensor:
            return table[places].to(device, torch.float32)  # (batch, tokens, width)

        def heads(table: Tensor) -> Tensor:
            return padded(table).unflatten(-1, (self._heads, -1)).transpose(1, 2)

        return Observation(
            self._logits[rows.cpu()].to(device),
            tuple(map(padded, self._states)),
            tuple((heads(q), heads(k), heads(v)) for q, k, v in self._attentions),
        )

    def _keep(self, rows: Tensor, observed: Observation) -> None:
        self._logits[rows] = observed.logits.float().cpu()
        tokens = int(self._lengths[rows].max())
        real = torch.arange(tokens) < self._lengths[rows][:, None]  # (batch, tokens)
        places = self._places(rows, tokens)[real]

        def keep(table: Tensor, values: Tensor) -> None:
            table[places] = values.cpu()[real].half()

        for table, state in zip(self._states, observed.hidden_states, strict=True):
            keep(table, state)
        for tables, attention in zip(self._attentions, observed.attentions, strict=True):
            for table, part in zip(tables, attention, strict=True):
                keep(table, part.transpose(1, 2).flatten(-2))

    def _places(self, rows: Tensor, tokens: int) -> Tensor:
        """Where an example's tokens stand in the tables, (batch, tokens)."""
        within = torch.arange(tokens)[None].minimum(self._lengths[rows][:, None] - 1)
        return self._starts[rows][:, None] + within


def bytes_kept(tokens: int, width: int, compared: Compared) -> int:
    """What :class:`TeacherOutputs` takes of memory."""
    return 2 * tokens * width * (len(compared.states) + 3 * len(compared.attentions))


class Numbered(Dataset[tuple[int, Any]]):
    """Data whose items know their numbers."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.lengths = data.lengths

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, row: int) -> tuple[int, Any]:
        return row, self._data[row]


def numbered(
    collate: Callable[[list[Any]], dict[str, Tensor]],
) -> Callable[[list[tuple[int, Any]]], dict[str, Tensor]]:
    """As ``collate``, for the items of :class:`Numbered`: the batch holds :data:`ROWS` too."""

    def collated(items: list[tuple[int, Any]]) -> dict[str, Tensor]:
        rows = torch.tensor([row for row, _ in items])
        return collate([item for _, item in items]) | {ROWS: rows}

    return collated
