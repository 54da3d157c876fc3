"""TeacherOutputs: what a teacher computes, held in memory for several passes over the texts.

A student nine times faster than its teacher learns from a text in a third of the time that the
teacher needs to read it. So if a training passes over its texts several times, and the compared
outputs fit in memory, the teacher reads all texts once, before the training begins.
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
"""Limit in bytes of the outputs held."""

ROWS = "rows"
"""Key in a batch for the indices of its examples in the data."""

_BATCH = 64


@dataclass(frozen=True)
class Compared:
    """The part of a model's outputs that is compared.

    Args:
        states: indices of hidden states; 0 is the embeddings.
        attentions: indices of layers.
    """

    states: tuple[int, ...] = ()
    attentions: tuple[int, ...] = ()

    def of(self, observed: Observation) -> Observation:
        """Select the compared part."""
        return Observation(
            observed.logits,
            tuple(observed.hidden_states[number] for number in self.states),
            tuple(observed.attentions[number] for number in self.attentions),
        )


@dataclass(frozen=True)
class TeacherOutputs:
    """A teacher's outputs on every example of some data, held in memory.

    Hidden states and attention are held in half precision, token after token.

    Args:
        lengths, starts: of each example, its tokens and where the first of them stands, (examples,)
        heads: the teacher's attention heads.
        logits: (examples, num_labels)
        states: of each compared hidden state, (tokens, hidden)
        attentions: of each compared layer, its queries, keys and values, (tokens, hidden) each
    """

    lengths: Tensor
    starts: Tensor
    heads: int
    logits: Tensor
    states: Sequence[Tensor]
    attentions: Sequence[tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def read(
        cls,
        teacher: PreTrainedModel,
        data: Dataset[Any],
        collate: Callable[[list[Any]], dict[str, Tensor]],
        compared: Compared,
        progress: Progress,
    ) -> TeacherOutputs:
        """Run the teacher on all examples.

        Args:
            teacher: frozen, in evaluation mode.
            data, collate: as in :class:`supernet.training.ResumableTrainer`.
            compared: what is held besides the logits.
        """
        lengths = np.asarray(data.lengths)  # type: ignore[attr-defined]
        total, width = int(lengths.sum()), teacher.config.hidden_size

        def table() -> Tensor:
            return torch.empty(total, width, dtype=torch.float16)

        outputs = cls(
            lengths=torch.from_numpy(lengths),
            starts=torch.from_numpy(np.cumsum(lengths) - lengths),
            heads=teacher.config.num_attention_heads,
            logits=torch.empty(len(lengths), shape_of(teacher.config).num_labels),
            states=[table() for _ in compared.states],
            attentions=[(table(), table(), table()) for _ in compared.attentions],
        )
        order = np.argsort(lengths, kind="stable")  # like lengths together: little padding
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            inputs = collate([data[int(row)] for row in rows])
            inputs.pop("labels", None)
            with torch.no_grad():
                observed = observe(teacher, {k: v.to(teacher.device) for k, v in inputs.items()})
            outputs._keep(torch.from_numpy(rows), compared.of(observed))
            progress(min(start + _BATCH, len(order)), len(order))
        return outputs

    @classmethod
    def of_evidence(cls, evidence: Evidence, states: Sequence[int]) -> TeacherOutputs:
        """Take what is known of a teacher, without running it again.

        Args:
            evidence: on every example of some data, packed from them in their order.
            states: numbers of the hidden states that are held.
        """
        order = evidence.texts.order.cpu()

        def in_order(values: Tensor) -> Tensor:
            found = torch.empty_like(values, device="cpu")
            found[order] = values.cpu()
            return found

        return cls(
            lengths=in_order(evidence.texts.lengths),
            starts=in_order(evidence.texts.starts),
            heads=evidence.teacher.config.num_attention_heads,
            logits=in_order(evidence.logits),
            states=[evidence.state(number).half().cpu() for number in states],
            attentions=[],
        )

    def __call__(self, rows: Tensor, tokens: int, device: torch.device) -> Observation:
        """The compared outputs on the examples at ``rows``, padded to ``tokens``.

        Values beyond an example's length are arbitrary; masks leave them out.
        """
        places = self._places(rows.cpu(), tokens)

        def padded(table: Tensor) -> Tensor:
            return table[places].to(device, torch.float32)  # (batch, tokens, width)

        def heads(table: Tensor) -> Tensor:
            return padded(table).unflatten(-1, (self.heads, -1)).transpose(1, 2)

        return Observation(
            self.logits[rows.cpu()].to(device),
            tuple(map(padded, self.states)),
            tuple((heads(q), heads(k), heads(v)) for q, k, v in self.attentions),
        )

    def _keep(self, rows: Tensor, observed: Observation) -> None:
        self.logits[rows] = observed.logits.float().cpu()
        tokens = int(self.lengths[rows].max())
        real = torch.arange(tokens) < self.lengths[rows][:, None]  # (batch, tokens)
        places = self._places(rows, tokens)[real]

        def keep(table: Tensor, values: Tensor) -> None:
            table[places] = values.cpu()[real].half()

        for table, state in zip(self.states, observed.hidden_states, strict=True):
            keep(table, state)
        for tables, attention in zip(self.attentions, observed.attentions, strict=True):
            for table, part in zip(tables, attention, strict=True):
                keep(table, part.transpose(1, 2).flatten(-2))

    def _places(self, rows: Tensor, tokens: int) -> Tensor:
        """Rows of the examples' tokens in the tables, (batch, tokens)."""
        within = torch.arange(tokens)[None].minimum(self.lengths[rows][:, None] - 1)
        return self.starts[rows][:, None] + within


def bytes_kept(tokens: int, width: int, compared: Compared) -> int:
    """Bytes of memory that :class:`TeacherOutputs` takes."""
    return 2 * tokens * width * (len(compared.states) + 3 * len(compared.attentions))


class Numbered(Dataset[tuple[int, Any]]):
    """Data whose items come with their indices."""

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
    """``collate`` for the items of :class:`Numbered`; the batch also has their :data:`ROWS`."""

    def collated(items: list[tuple[int, Any]]) -> dict[str, Tensor]:
        rows = torch.tensor([row for row, _ in items])
        return collate([item for _, item in items]) | {ROWS: rows}

    return collated
