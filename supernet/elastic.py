"""Run one layer of a BERT on a leading slice of its weights.

Each function takes the full-size module and the sizes to run at. Slices are views of the shared
weights, with one exception: the projections of heads narrower than the module's are copied, because
their rows are not adjacent in memory. The number of heads and the size of a head are sliced
separately, so a head of a narrow sub-network is the leading part of the same head in a wide one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import (
    BertAttention,
    BertEmbeddings,
    BertLayer,
    BertModel,
    BertPooler,
)

from supernet.architecture import Layer


def layers_of(bert: BertModel) -> list[BertLayer]:
    """The transformer layers, first to last."""
    return list(cast("Iterable[BertLayer]", bert.encoder.layer))


def embed(module: BertEmbeddings, input_ids: Tensor, token_type_ids: Tensor, hidden: int) -> Tensor:
    """Sum of word, position and segment embeddings, normalized.

    Returns:
        (batch, tokens, hidden)
    """
    tokens = input_ids.shape[1]
    # Look up at full width, then cut: the gradient of a sliced table would be another full table.
    embedded = module.word_embeddings(input_ids)[..., :hidden]
    embedded = embedded + module.position_embeddings.weight[:tokens, :hidden]
    embedded = (
        embedded + F.embedding(token_type_ids, module.token_type_embeddings.weight)[..., :hidden]
    )
    return normalize(module.LayerNorm, embedded)


def linear(module: nn.Linear, inputs: Tensor, out_features: int) -> Tensor:
    """The leading ``out_features`` outputs of a linear, from its leading inputs."""
    return F.linear(
        inputs, module.weight[:out_features, : inputs.shape[-1]], module.bias[:out_features]
    )


def normalize(module: nn.LayerNorm, inputs: Tensor) -> Tensor:
    """Layer normalization with the leading gains and offsets."""
    size = inputs.shape[-1]
    return F.layer_norm(inputs, (size,), module.weight[:size], module.bias[:size], module.eps)


def head_rows(rows: Tensor, num_heads: int, layer: Layer) -> Tensor:
    """The leading rows of each of the leading heads, from a (num_heads * head_size, ...) tensor.

    Returns:
        (layer.qkv_size, ...)
    """
    return rows.unflatten(0, (num_heads, -1))[: layer.num_heads, : layer.head_size].flatten(0, 1)


def project(module: nn.Linear, inputs: Tensor, num_heads: int, layer: Layer) -> Tensor:
    """The queries, keys or values of the leading heads.

    Returns:
        (batch, layer.num_heads, tokens, layer.head_size)
    """
    weight = head_rows(module.weight[:, : inputs.shape[-1]], num_heads, layer)
    projected = F.linear(inputs, weight, head_rows(module.bias, num_heads, layer))
    return projected.unflatten(-1, (layer.num_heads, layer.head_size)).transpose(1, 2)


def attend(
    module: BertAttention, inputs: Tensor, mask: Tensor | None, num_heads: int, layer: Layer
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Self-attention with its output projection, residual and normalization.

    Args:
        module: a ``BertAttention`` of ``num_heads`` heads.
        inputs: (batch, tokens, hidden)
        mask: (batch, 1, 1, tokens), True at tokens to attend to; None attends to all.

    Returns:
        (batch, tokens, hidden), and the queries, keys and values,
        each (batch, heads, tokens, head_size).
    """
    own = module.self
    query, key, value = (
        project(part, inputs, num_heads, layer) for part in (own.query, own.key, own.value)
    )
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    attended = attended.transpose(1, 2).flatten(-2)  # (batch, tokens, qkv_size)
    output, hidden = module.output, inputs.shape[-1]
    weight = head_rows(output.dense.weight[:hidden].T, num_heads, layer).T
    projected = F.linear(attended, weight, output.dense.bias[:hidden])
    return normalize(output.LayerNorm, projected + inputs), (query, key, value)


def feed_forward(module: BertLayer, inputs: Tensor, intermediate_size: int) -> Tensor:
    """The two linears of a ``BertLayer`` with residual and normalization.

    Returns:
        (batch, tokens, hidden)
    """
    inner = linear(module.intermediate.dense, inputs, intermediate_size)
    inner = module.intermediate.intermediate_act_fn(inner)
    projected = linear(module.output.dense, inner, inputs.shape[-1])
    return normalize(module.output.LayerNorm, projected + inputs)


def pool(module: BertPooler, inputs: Tensor) -> Tensor:
    """BERT's pooler: tanh of a linear of the first token, (batch, hidden)."""
    return linear(module.dense, inputs[:, 0], inputs.shape[-1]).tanh()
