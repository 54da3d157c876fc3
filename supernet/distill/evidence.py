"""Evidence: what a teacher computes on texts, computed once and shared by all fits.

For each of the teacher's layers, a fit needs the two sums that the layer normalizes. Everything
else (states, queries, keys, values, neurons before their activation) follows from these sums by a
normalization, or by a normalization and a linear map.
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
"""Limit in bytes. If the sums of all layers are larger, each layer is computed when needed."""

Tokens = TypeVar("Tokens", int, NDArray[np.int64])

BLOCK = 8192
"""Number of tokens that are processed at a time."""


class LayerEvidence(NamedTuple):
    """The sums that one layer of a teacher normalizes, each (tokens, hidden).

    Args:
        attention_sum: attention's output plus its residual.
        output_sum: the feed-forward network's output plus its residual.
    """

    attention_sum: Tensor
    output_sum: Tensor


def blocks(*states: Tensor) -> Iterator[Any]:
    """Several states in parallel blocks of :data:`BLOCK` tokens."""
    return zip(*(one.split(BLOCK) for one in states), strict=True)


def bytes_kept(tokens: Tokens, teacher: Architecture) -> Tokens:
    """Bytes that the sums of all layers take: two float32 numbers for each unit and layer."""
    return 8 * teacher.num_layers * teacher.hidden_size * tokens


class Evidence:
    """What a teacher computes on texts.

    Args:
        teacher: ``BertForSequenceClassification`` or a TailorBERT, in evaluation mode.
        texts: texts for the teacher to read.
        memory_limit: in bytes. If the sums take more, every fit runs the teacher again, layer by
            layer in ascending order.
        progress: called with the number of layers computed, and the number of all layers.

    Attributes:
        logits: (texts, num_labels)
        first: last state of the first token, (texts, hidden)
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
        """Covariance of a state over all tokens, up to a factor, (hidden, hidden), float64."""
        return self._spreads[number]

    @torch.no_grad()
    def state(self, number: int) -> Tensor:
        """A hidden state, (tokens, hidden): the embeddings for 0, the output of layer n for n."""
        if number == 0:
            return self._embedded()
        output = self.teacher.bert.encoder.layer[number - 1].output
        return output.LayerNorm(self.layer(number - 1).output_sum)

    @torch.no_grad()
    def layer(self, index: int) -> LayerEvidence:
        """The sums of the layer at ``index``, counted from 0."""
        if index in self._layers:
            return self._layers[index]
        found = self._computed(index, self.state(index))
        if not self._keeps:
            self._layers.clear()
        self._layers[index] = found
        return found

    @torch.no_grad()
    def part(self, kept: Tensor) -> Evidence:
        """The evidence on some of the texts, held in memory.

        Args:
            kept: (texts,), True for the texts to keep, in packed order
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
