"""Order heads, neurons and hidden units by importance, so that leading slices keep what matters.

The function of the model stays the same to rounding: each ordering permutes the rows that produce
a unit together with the columns that read it (once-for-all, Cai et al., ICLR 2020).

A unit's importance is how much the model's output depends on it: the squared product of the unit's
activation and the gradient of a random direction of the output. This is a first-order Taylor
expansion of removing the unit (Molchanov et al. 2019; Michel et al. 2019). It needs no labels, so a
plain encoder can be ordered too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertForSequenceClassification

from supernet.elastic import layers_of


@dataclass(frozen=True)
class LayerImportance:
    """Importance of one layer's units.

    Args:
        values: (num_heads, head_size), of each dimension of the attended values
        queries: (num_heads, head_size), of each dimension of the queries (and keys)
        neurons: (intermediate_size,)
    """

    values: Tensor
    queries: Tensor
    neurons: Tensor


@dataclass(frozen=True)
class Importance:
    """Importance of all units of a BERT; ``hidden`` is (hidden_size,)."""

    hidden: Tensor
    layers: tuple[LayerImportance, ...]


def measure_importance(
    model: BertForSequenceClassification,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    generator: torch.Generator,
) -> Importance:
    """Importance of every unit over ``batches`` of model inputs."""
    totals: dict[str, Tensor] = {}
    recorded: dict[str, Tensor] = {}
    was_training = model.training
    model.eval()
    with ExitStack() as hooks:
        for name, module in _observed(model):
            hooks.callback(module.register_forward_hook(_recorder(recorded, name)).remove)
        for batch in batches:
            recorded.clear()
            logits = model(**batch).logits
            direction = torch.randn(logits.shape, generator=generator).to(logits.device)
            gradients = torch.autograd.grad((logits * direction).sum(), list(recorded.values()))
            for (name, activation), gradient in zip(recorded.items(), gradients, strict=True):
                taylor = (activation.detach() * gradient).sum(dim=1) ** 2  # (batch, units)
                totals[name] = totals.get(name, torch.zeros(())) + taylor.sum(dim=0).cpu()
    model.train(was_training)

    heads = model.config.num_attention_heads
    layers = tuple(
        LayerImportance(
            values=totals[f"{index}.value"].unflatten(0, (heads, -1)),
            queries=totals[f"{index}.query"].unflatten(0, (heads, -1)),
            neurons=totals[f"{index}.neurons"],
        )
        for index in range(model.config.num_hidden_layers)
    )
    hidden = sum((totals[n] for n in totals if n.endswith("hidden")), torch.zeros(()))
    return Importance(hidden, layers)


@torch.no_grad()
def reorder(model: BertForSequenceClassification, importance: Importance) -> None:
    """Put the most important units first, in place; the model's function does not change."""
    order = importance.hidden.argsort(descending=True)
    bert = model.bert
    for table in (
        bert.embeddings.word_embeddings,
        bert.embeddings.position_embeddings,
        bert.embeddings.token_type_embeddings,
    ):
        table.weight.copy_(table.weight[:, order])
    _permute_norm(bert.embeddings.LayerNorm, order)
    for module, layer in zip(layers_of(bert), importance.layers, strict=True):
        attention = module.attention
        queries, values = head_orders(layer)
        for part, rows in (
            (attention.self.query, queries),
            (attention.self.key, queries),
            (attention.self.value, values),
        ):
            _permute(part, rows=rows, columns=order)
        _permute(attention.output.dense, rows=order, columns=values)
        _permute_norm(attention.output.LayerNorm, order)
        neurons = layer.neurons.argsort(descending=True)
        _permute(module.intermediate.dense, rows=neurons, columns=order)
        _permute(module.output.dense, rows=order, columns=neurons)
        _permute_norm(module.output.LayerNorm, order)
    assert bert.pooler is not None, "a sequence classifier pools"
    _permute(bert.pooler.dense, rows=order, columns=order)
    model.classifier.weight.copy_(model.classifier.weight[:, order])


def head_orders(layer: LayerImportance) -> tuple[Tensor, Tensor]:
    """New orders of the rows of query and key, and of the rows of value.

    Both have the same order of heads, by importance, and keep each head's rows together. Within a
    head, rows are ordered by importance.
    """
    heads = layer.values.sum(dim=1).argsort(descending=True)
    size = layer.values.shape[1]

    def rows(importance: Tensor) -> Tensor:
        within = importance[heads].argsort(dim=1, descending=True)
        return (heads[:, None] * size + within).flatten()

    return rows(layer.queries), rows(layer.values)


def _observed(model: BertForSequenceClassification) -> list[tuple[str, nn.Module]]:
    """The modules whose outputs are the units, by name."""
    observed: list[tuple[str, nn.Module]] = [("embeddings.hidden", model.bert.embeddings)]
    for index, layer in enumerate(layers_of(model.bert)):
        observed += [
            (f"{index}.query", layer.attention.self.query),
            (f"{index}.value", layer.attention.self.value),
            (f"{index}.attention.hidden", layer.attention.output),
            (f"{index}.neurons", layer.intermediate),
            (f"{index}.hidden", layer.output),
        ]
    return observed


def _recorder(recorded: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def record(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        recorded[name] = output

    return record


def _permute(module: nn.Linear, *, rows: Tensor, columns: Tensor) -> None:
    module.weight.copy_(module.weight[rows][:, columns])
    module.bias.copy_(module.bias[rows])


def _permute_norm(module: nn.LayerNorm, order: Tensor) -> None:
    module.weight.copy_(module.weight[order])
    module.bias.copy_(module.bias[order])
