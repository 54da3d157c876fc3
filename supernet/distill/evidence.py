"""What a teacher computes on texts: read once, then shared by all fits.

The least squares of a fit need, of each of the teacher's layers, the two sums that it normalizes.
All else (states, queries, keys, values, neurons before their activation) is a normalization away,
or linear in what is.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from supernet.architecture import Architecture
from supernet.distill.least_squares import moments
from supernet.distill.packed_texts import PackedTexts
from supernet.student import architecture_of
from supernet.training import Progress

MEMORY_LIMIT = 3 * 2**30
"""Bytes of layers' sums that are kept; of more, each layer is computed when it is asked for."""

Tokens = TypeVar("Tokens", int, NDArray[np.int64])

BLOCK = 8192
"""Tokens that are worked on at a time."""


class LayerEvidence(NamedTuple):
    """What one layer of a teacher computes, each (tokens, hidden).

    Args:
        attention_sum: of attention's output and its residual, before normalization.
        output_sum: of the feed-forward network's and its residual, before normalization.
    """

    attention_sum: Tensor
    output_sum: Tensor


def blocks(*states: Tensor) -> Iterator[Any]:
    """States in blocks of :data:`BLOCK` tokens, side by side."""
    return zip(*(one.split(BLOCK) for one in states), strict=True)


def bytes_kept(tokens: Tokens, teacher: Architecture) -> Tokens:
    """Of memory that all layers' sums take: two numbers of four bytes for each unit and layer."""
    return 8 * teacher.num_layers * teacher.hidden_size * tokens


class Evidence:
    """What a teacher computes on texts.

    Args:
        teacher: ``BertForSequenceClassification`` or a TailorBERT, in evaluation mode.
        texts: that it reads.
        memory_limit: in bytes; a teacher whose sums take more is run again layer by layer, in
            ascending order, by every fit.
        progress: called with the layers that are read, and all there are.

    Attributes:
        logits: (texts, num_labels)
        first: the first token's last state, (texts, hidden)
    """

    @torch.no_grad()
    def __init__(
        self,
        teacher: PreTrainedModel,
        texts: PackedTexts,
        *,
        memory_limit: int = MEMORY_LIMIT,
        progress: Progress | None = None,
    ) -> None:
        self.teacher: Any = teacher.eval()
        self.texts = texts.to(teacher.device)
        self.architecture = architecture_of(teacher.config)
        depth = self.architecture.num_layers
        self._keeps = bytes_kept(texts.tokens, self.architecture) <= memory_limit
        self._layers: dict[int, LayerEvidence] = {}
        self._spreads: list[Tensor] = []
        for number in range(depth + 1):
            if progress is not None:
                progress(number, depth + 1)
            state = self.state(number)
            self._spreads.append(moments(blocks(state)).squares)
        self.first = state[self.texts.starts]
        pooled = self.teacher.bert.pooler.dense(self.first).tanh()
        self.logits = self.teacher.classifier(pooled)

    def spread(self, number: int) -> Tensor:
        """Covariance of a state over all tokens, up to a factor, (hidden, hidden) in float64."""
        return self._spreads[number]

    @torch.no_grad()
    def state(self, number: int) -> Tensor:
        """A hidden state, (tokens, hidden): 0 is the embeddings', then each layer's output."""
        if number == 0:
            return self._embedded()
        output = self.teacher.bert.encoder.layer[number - 1].output
        return output.LayerNorm(self.layer(number - 1).output_sum)

    @torch.no_grad()
    def layer(self, index: int) -> LayerEvidence:
        """What the layer at ``index``, from 0, computes."""
        if index in self._layers:
            return self._layers[index]
        found = self._computed(index, self.state(index))
        if not self._keeps:
            self._layers.clear()
        self._layers[index] = found
        return found

    @torch.no_grad()
    def part(self, kept: Tensor) -> Evidence:
        """The evidence on some of the texts, kept in memory.

        Args:
            kept: (texts,), True for those, in packed order
        """
        found = copy(self)
        found.texts = self.texts.part(kept)
        found.first, found.logits = self.first[kept], self.logits[kept]
        tokens = kept.repeat_interleave(self.texts.lengths)
        found._keeps = True
        found._layers = {
            index: LayerEvidence(*(one[tokens] for one in self.layer(index)))
            for index in range(self.architecture.num_layers)
        }
        states = map(found.state, range(self.architecture.num_layers + 1))
        found._spreads = [moments(blocks(state)).squares for state in states]
        return found

    def _embedded(self) -> Tensor:
        own, texts = self.teacher.bert.embeddings, self.texts
        found: Tensor = own.LayerNorm(
            own.word_embeddings(texts.input_ids)
            + own.position_embeddings.weight[texts.positions]
            + own.token_type_embeddings(texts.token_type_ids)
        )
        return found

    def _computed(self, index: int, given: Tensor) -> LayerEvidence:
        layer = self.teacher.bert.encoder.layer[index]
        own, output = layer.attention.self, layer.attention.output
        heads = self.architecture.layers[index].num_heads
        context = self.texts.attend(own.query(given), own.key(given), own.value(given), heads)
        attention_sum = output.dense(context).add_(given)
        output_sum = torch.empty_like(attention_sum)
        for total, one in blocks(output_sum, attention_sum):
            attended = output.LayerNorm(one)
            total.copy_(layer.output.dense(layer.intermediate(attended)).add_(attended))
        return LayerEvidence(attention_sum, output_sum)
