"""Run a BERT-like classifier and return all that losses compare: logits, states, attention.

Stock models do not return queries and keys, and run their layers in one loop. Distillation also
feeds mixed embeddings (MixKD) and swaps layers from step to step (BERT-of-Theseus). So this module
calls the models' modules one by one, in the order of the models' own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

Attention = tuple[Tensor, Tensor, Tensor]
"""A layer's queries, keys and values, each (batch, num_heads, tokens, head_size)."""


@dataclass(frozen=True)
class Observation:
    """What a classifier computed.

    Args:
        logits: (batch, num_labels)
        hidden_states: the embeddings and every layer's output, each (batch, tokens, hidden_size)
        attentions: every layer's queries, keys and values
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...]
    attentions: tuple[Attention, ...]


def observe(
    model: PreTrainedModel,
    inputs: Mapping[str, Tensor],
    *,
    words: Tensor | None = None,
    layers: Sequence[nn.Module] | None = None,
) -> Observation:
    """Run ``model``; its logits equal those of its own forward.

    Args:
        model: ``BertForSequenceClassification`` or ``TailorBertForSequenceClassification``.
        inputs: ``input_ids`` and, where there are any, ``attention_mask`` and ``token_type_ids``,
            each (batch, tokens)
        words: word embeddings to use instead of the tokens' own, (batch, tokens, hidden_size)
        layers: layers to run instead of the model's own.
    """
    encoder: Any = model.bert
    ids, mask = inputs["input_ids"], inputs.get("attention_mask")
    if words is None:
        words = word_embeddings(model, ids)
    token_type_ids = inputs.get("token_type_ids", torch.zeros_like(ids))
    mask = None if mask is None else mask[:, None, None, :].bool()
    hidden = _embed(encoder.embeddings, words, token_type_ids)
    states, attentions = [hidden], []
    for layer in encoder.encoder.layer if layers is None else layers:
        hidden, attention = _run(layer, hidden, mask)
        states.append(hidden)
        attentions.append(attention)
    head: Any = model
    pooled = encoder.pooler(hidden)
    return Observation(head.classifier(head.dropout(pooled)), tuple(states), tuple(attentions))


def word_embeddings(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """The tokens' word embeddings, before anything is added, (batch, tokens, hidden_size)."""
    embedded: Tensor = word_table(model)(input_ids)
    return embedded


def word_table(model: PreTrainedModel) -> Any:
    """The module that holds a classifier's word embeddings."""
    encoder: Any = model.bert
    return encoder.embeddings.word_embeddings


def _embed(module: Any, words: Tensor, token_type_ids: Tensor) -> Tensor:
    positions = module.position_embeddings.weight[: words.shape[1]]
    embedded = module.LayerNorm(words + positions + module.token_type_embeddings(token_type_ids))
    return module.dropout(embedded) if hasattr(module, "dropout") else embedded


def _run(layer: Any, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, Attention]:
    own = layer.attention.self
    heads = own.num_attention_heads if hasattr(own, "num_attention_heads") else own.num_heads
    query, key, value = (
        part(hidden).unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in (own.query, own.key, own.value)
    )  # (batch, heads, tokens, head_size)
    dropout = own.dropout.p if layer.training and hasattr(own, "dropout") else 0.0
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    attended = attended.transpose(1, 2).flatten(-2)  # (batch, tokens, qkv_size)
    hidden = layer.attention.output(attended, hidden)
    return layer.output(layer.intermediate(hidden), hidden), (query, key, value)
