"""PackedTexts: tokenized texts without padding; texts of one length are adjacent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from supernet.errors import NasError


@dataclass(frozen=True)
class PackedTexts:
    """Texts in ascending length, token after token.

    A linear layer over all tokens is one matrix product. Attention needs no mask: it runs over the
    texts of one length at a time.

    Args:
        input_ids, token_type_ids, positions: (tokens,)
        groups: number of texts and tokens of each, for each length, in ascending length
        order: original index of each packed text, (texts,)
    """

    input_ids: Tensor
    token_type_ids: Tensor
    positions: Tensor
    groups: tuple[tuple[int, int], ...]
    order: Tensor

    @classmethod
    def of(cls, batches: Sequence[Mapping[str, Tensor]]) -> PackedTexts:
        """Pack the real tokens of batches, which are padded on the right.

        Args:
            batches: ``input_ids`` with ``attention_mask`` and, where there are any,
                ``token_type_ids``, each (batch, tokens)

        Raises:
            NasError: there are no texts.
        """
        if not batches:
            raise NasError("weights are fitted on texts, and there are none")
        lengths = torch.cat([batch["attention_mask"].sum(1) for batch in batches])
        order = lengths.argsort(stable=True)
        texts: list[Tensor] = []
        segments: list[Tensor] = []
        for batch in batches:
            ids, counts = batch["input_ids"], batch["attention_mask"].sum(1).tolist()
            types = batch.get("token_type_ids", torch.zeros_like(ids))
            texts += [row[:count] for row, count in zip(ids, counts, strict=True)]
            segments += [row[:count] for row, count in zip(types, counts, strict=True)]
        sizes, counts_of = lengths.unique(sorted=True, return_counts=True)
        groups = tuple(zip(counts_of.tolist(), sizes.tolist(), strict=True))
        rows = order.tolist()
        return cls(
            torch.cat([texts[row] for row in rows]),
            torch.cat([segments[row] for row in rows]),
            torch.cat([torch.arange(size).repeat(count) for count, size in groups]).to(order),
            groups,
            order,
        )

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.order)

    @property
    def tokens(self) -> int:
        return len(self.input_ids)

    @property
    def starts(self) -> Tensor:
        """Position of each text's first token, (texts,)."""
        lengths = self.lengths
        return lengths.cumsum(0) - lengths

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text, (texts,), ascending."""
        counts, sizes = torch.tensor(self.groups).T
        return sizes.repeat_interleave(counts).to(self.order)

    def to(self, device: torch.device) -> PackedTexts:
        """The same texts on a device."""
        names = ("input_ids", "token_type_ids", "positions", "order")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def part(self, kept: Tensor) -> PackedTexts:
        """Some of the texts, as if only they had been packed.

        Args:
            kept: (texts,), True for the texts to keep, in packed order
        """
        tokens = kept.repeat_interleave(self.lengths)
        sizes, counts = self.lengths[kept].unique(return_counts=True)
        return PackedTexts(
            self.input_ids[tokens],
            self.token_type_ids[tokens],
            self.positions[tokens],
            tuple(zip(counts.tolist(), sizes.tolist(), strict=True)),
            self.order[kept].argsort().argsort(),
        )

    def attend(self, query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        """Attention within each text; all arguments and the result are (tokens, width)."""
        gathered = torch.empty_like(value)
        start = 0
        for texts, length in self.groups:
            rows = slice(start, start + texts * length)
            start = rows.stop
            parts = (
                one[rows].unflatten(0, (texts, length)).unflatten(-1, (heads, -1)).transpose(1, 2)
                for one in (query, key, value)
            )  # (texts, heads, length, head_size)
            found = F.scaled_dot_product_attention(*parts)
            gathered[rows] = found.transpose(1, 2).flatten(-2).flatten(0, 1)
        return gathered
