"""Supernet: a BERT whose forward takes an Architecture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification, PreTrainedModel

from supernet import elastic
from supernet.architecture import Architecture, Layer, layer_map
from supernet.compress.kronecker import factorized
from supernet.errors import NasError
from supernet.loading import load_whole
from supernet.observe import Observation
from supernet.student import architecture_of, carried_settings, new_student, shape_of

_LAYER = re.compile(r"\.layer\.(\d+)\.")


class Supernet(nn.Module):
    """Weights shared by all sub-networks, held in a stock ``BertForSequenceClassification``.

    A sub-network has layers at even distances, the last one included
    (:func:`supernet.architecture.layer_map`). Of each it has the leading heads, the leading
    dimensions of a head, the leading neurons and the leading hidden units. The sub-network is an
    argument of the call, never a state, so sub-networks of different shapes can run side by side.

    Example:
        >>> from transformers import BertConfig
        >>> config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        ...     intermediate_size=64, vocab_size=100)
        >>> supernet = Supernet(BertForSequenceClassification(config)).eval()
        >>> small = Architecture.uniform(
        ...     num_layers=1, hidden_size=16, num_heads=2, intermediate_size=32)
        >>> supernet(torch.tensor([[2, 7, 3]]), architecture=small).logits.shape
        torch.Size([1, 2])
    """

    def __init__(self, weights: BertForSequenceClassification) -> None:
        super().__init__()
        self.weights = weights
        self.largest = architecture_of(weights.config)
        self.shape = shape_of(weights.config)

    @classmethod
    def from_teacher(cls, teacher: BertForSequenceClassification) -> Supernet:
        """A supernet that starts as a copy of ``teacher``."""
        weights = BertForSequenceClassification(teacher.config)
        weights.load_state_dict(teacher.state_dict())
        return cls(weights).to(teacher.device)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Supernet:
        """Load what :meth:`save_pretrained` wrote.

        Raises:
            NasError: weights that are absent, or not the supernet's.
        """
        return cls(load_whole(BertForSequenceClassification, folder, f"supernet {folder}"))

    def save_pretrained(self, folder: Path) -> None:
        """Write the weights as a stock BERT checkpoint."""
        self.weights.save_pretrained(folder)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        architecture: Architecture | None = None,
    ) -> Observation:
        """Run a sub-network, by default the largest.

        Args:
            input_ids, attention_mask, token_type_ids: (batch, tokens)

        Raises:
            NasError: the architecture does not fit in the supernet, or has compressed layers, whose
                factors are no slice of the shared weights.
        """
        architecture = architecture or self.largest
        self._check(architecture)
        if architecture.is_factored:
            raise NasError(f"layers of {architecture} are factored: extract it, then run it")
        bert = self.weights.bert
        assert bert.pooler is not None, "a sequence classifier pools"
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        hidden = elastic.embed(bert.embeddings, input_ids, token_type_ids, architecture.hidden_size)
        states, attentions = [hidden], []
        modules = elastic.layers_of(bert)
        for index, layer in zip(self.layers_of(architecture), architecture.layers, strict=True):
            module, full = modules[index], self.largest.layers[index]
            hidden, attention = elastic.attend(
                module.attention, hidden, mask, full.num_heads, layer
            )
            hidden = elastic.feed_forward(module, hidden, layer.intermediate_size)
            states.append(hidden)
            attentions.append(attention)
        classifier = self.weights.classifier
        logits = elastic.linear(
            classifier, elastic.pool(bert.pooler, hidden), classifier.out_features
        )
        return Observation(logits, tuple(states), tuple(attentions))

    def layers_of(self, architecture: Architecture) -> list[int]:
        """Indices of the layers that a sub-network runs."""
        mapped = layer_map(architecture.num_layers, self.largest.num_layers)
        return [number - 1 for number in mapped[1:]]

    def extract(
        self, architecture: Architecture, layers: Sequence[int] | None = None
    ) -> PreTrainedModel:
        """An independent model with a copy of a sub-network's weights.

        Its outputs equal those of the sub-network run in place. Compressed layers get the factors
        nearest to the shared weights.

        Args:
            layers: indices of the layers to take instead of the sub-network's own.

        Raises:
            NasError: the architecture does not fit in the supernet.
        """
        if architecture.is_factored:
            return factorized(self.extract(architecture.whole, layers), architecture.factors)
        self._check(architecture)
        student = self.blank(architecture)
        shared = self.weights.state_dict()
        taken = self.layers_of(architecture) if layers is None else layers
        sliced = {}
        for name, value in student.state_dict().items():
            source, layer, full = name, None, None
            if match := _LAYER.search(name):
                index = int(match[1])
                source = name.replace(match[0], f".layer.{taken[index]}.")
                layer, full = architecture.layers[index], self.largest.layers[taken[index]]
            sliced[name] = _sliced(name, shared[source], tuple(value.shape), layer, full)
        student.load_state_dict(sliced)
        return student.eval()

    def blank(self, architecture: Architecture) -> PreTrainedModel:
        """A student with random weights, on this model's device, with its labels and settings."""
        student = new_student(architecture, self.shape, carried_settings(self.weights.config))
        nn.Module.to(student, self.weights.device)
        return student

    def _check(self, architecture: Architecture) -> None:
        if not architecture.fits_in(self.largest):
            raise NasError(
                f"architecture {architecture} does not fit in the supernet's {self.largest}"
            )


def _sliced(
    name: str, weight: Tensor, shape: tuple[int, ...], layer: Layer | None, full: Layer | None
) -> Tensor:
    """A copy of the part of a shared weight that a student holds.

    Args:
        name: the student's parameter.
        layer, full: sizes of its layer in the student and in the supernet; None outside layers.
    """
    parts = name.split(".")
    if layer is not None and full is not None and "attention" in parts and "LayerNorm" not in parts:
        if "self" in parts:
            weight = elastic.head_rows(weight, full.num_heads, layer)
        elif weight.ndim == 2:
            weight = elastic.head_rows(weight.T, full.num_heads, layer).T
    return weight[tuple(slice(size) for size in shape)].clone()
