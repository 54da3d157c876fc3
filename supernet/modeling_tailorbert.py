"""TailorBERT: a BERT whose layers have sizes of their own.

This file travels with every exported model that stock BERT cannot hold, so it imports nothing but
torch, transformers and the file beside it, which travels too. Module names are BERT's, so both
share one set of weight names.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

from .kronecker_layers import KroneckerEmbedding, KroneckerLinear  # noqa: TID252 - see above


class TailorBertConfig(PretrainedConfig):
    """Configuration of a BERT with layers of different sizes.

    Args:
        hidden_size: width of the token representations.
        layers: for each layer ``{"num_heads", "qkv_size", "intermediate_size"}``.
        factors: of modules whose weight is a sum of Kronecker products, by name in the encoder:
            ``[m1, n1, m2, n2, terms]``.
        The others are those of ``transformers.BertConfig``.
    """

    model_type = "tailorbert"

    hidden_size: int = 128
    layers: list[dict[str, int]] | None = None
    vocab_size: int = 30522
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int | None = 0
    factors: dict[str, list[int]] | None = None

    @property
    def num_hidden_layers(self) -> int:
        return len(self.layers or [])


class TailorBertEmbeddings(nn.Module):
    def __init__(self, config: TailorBertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, hidden, config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, hidden)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        tokens = input_ids.shape[1]
        embedded = self.word_embeddings(input_ids) + self.position_embeddings.weight[:tokens]
        if token_type_ids is None:
            embedded = embedded + self.token_type_embeddings.weight[0]
        else:
            embedded = embedded + self.token_type_embeddings(token_type_ids)
        return self.LayerNorm(embedded)


class TailorBertSelfAttention(nn.Module):
    def __init__(self, hidden_size: int, num_heads: int, qkv_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, qkv_size)
        self.key = nn.Linear(hidden_size, qkv_size)
        self.value = nn.Linear(hidden_size, qkv_size)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            part(hidden).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )  # (batch, heads, tokens, head_size)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attended.transpose(1, 2).flatten(-2)  # (batch, tokens, qkv_size)


class TailorBertOutput(nn.Module):
    """A linear back to the hidden size, residual and normalization."""

    def __init__(self, config: TailorBertConfig, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inner: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(inner)) + residual)


class TailorBertAttention(nn.Module):
    def __init__(self, config: TailorBertConfig, num_heads: int, qkv_size: int) -> None:
        super().__init__()
        self.self = TailorBertSelfAttention(config.hidden_size, num_heads, qkv_size)
        self.output = TailorBertOutput(config, qkv_size)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        return self.output(self.self(hidden, mask), hidden)


class TailorBertIntermediate(nn.Module):
    def __init__(self, config: TailorBertConfig, size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return self.activation(self.dense(hidden))


class TailorBertLayer(nn.Module):
    def __init__(
        self, config: TailorBertConfig, num_heads: int, qkv_size: int, intermediate_size: int
    ) -> None:
        super().__init__()
        self.attention = TailorBertAttention(config, num_heads, qkv_size)
        self.intermediate = TailorBertIntermediate(config, intermediate_size)
        self.output = TailorBertOutput(config, intermediate_size)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        hidden = self.attention(hidden, mask)
        return self.output(self.intermediate(hidden), hidden)


class TailorBertEncoder(nn.Module):
    def __init__(self, config: TailorBertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            TailorBertLayer(config, **sizes) for sizes in config.layers or []
        )


class TailorBertPooler(nn.Module):
    def __init__(self, config: TailorBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.dense(hidden[:, 0]))


class TailorBertPreTrainedModel(PreTrainedModel):
    config: TailorBertConfig
    config_class = TailorBertConfig
    base_model_prefix = "bert"
    _supports_sdpa = True


class TailorBertModel(TailorBertPreTrainedModel):
    """The encoder with its pooler."""

    def __init__(self, config: TailorBertConfig) -> None:
        super().__init__(config)
        self.embeddings = TailorBertEmbeddings(config)
        self.encoder = TailorBertEncoder(config)
        self.pooler = TailorBertPooler(config)
        for name, sizes in (config.factors or {}).items():
            self._factor(name, *sizes)
        self.post_init()

    def _factor(self, name: str, m1: int, n1: int, m2: int, n2: int, terms: int) -> None:
        """Put a factored layer in the place of ``name``."""
        parent, _, child = name.rpartition(".")
        layer: nn.Module
        if isinstance(self.get_submodule(name), nn.Embedding):
            layer = KroneckerEmbedding(m1, n1, n2, terms)
        else:
            layer = KroneckerLinear((m1, n1), (m2, n2), terms)
        setattr(self.get_submodule(parent), child, layer)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        **_: Any,
    ) -> BaseModelOutputWithPooling:
        """Token ids, mask and segments of (batch, tokens) to hidden states."""
        hidden = self.embeddings(input_ids, token_type_ids)
        mask = None if attention_mask is None else attention_mask[:, None, None, :].bool()
        states = [hidden]
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask)
            states.append(hidden)
        return BaseModelOutputWithPooling(
            last_hidden_state=hidden,
            pooler_output=self.pooler(hidden),
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class TailorBertForSequenceClassification(TailorBertPreTrainedModel):
    """The encoder with a classifier, or a regressor where ``num_labels`` is 1."""

    def __init__(self, config: TailorBertConfig) -> None:
        super().__init__(config)
        self.num_labels: int = config.num_labels or 1
        self.bert = TailorBertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool = False,
        **_: Any,
    ) -> SequenceClassifierOutput:
        """As ``BertForSequenceClassification``: logits of (batch, num_labels)."""
        encoded = self.bert(input_ids, attention_mask, token_type_ids, output_hidden_states)
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None
        if labels is not None and self.num_labels == 1:
            loss = F.mse_loss(logits.squeeze(-1), labels.to(logits.dtype))
        elif labels is not None:
            loss = F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states
        )


TailorBertConfig.register_for_auto_class()
TailorBertModel.register_for_auto_class("AutoModel")
TailorBertForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
